"""What a job is to Nomad: one batch job with a group for each kind of worker, and one for the job master."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import attrs

from twister2.spec.errors import SubmissionRefusedError
from twister2_rm_nomad.api import TOKEN
from twister2_rm_nomad.config import constraint
from twister2_rm_nomad.copies import SCRIPT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twister2.spec.rm import Allocation, ResourceGroup
    from twister2_rm_nomad.config import NomadConfig

PREFIX = "twister2-"
MASTER = "master"
TASK = "copy"
"""The one task of every group."""
SECOND = 1_000_000_000
SOON = SECOND // 20
"""After how long a changed ticket is written; Nomad's own default is 5 s, in which all copies would wait for it."""
LOGS_MB = 10
SMALLEST_DISK_MB = 3 * LOGS_MB + 20
"""Nomad wants room for the logs on the disk of a group."""
HOLD_S = 3600
"""Seconds in which a worker's restarts are counted. There are none: it tells versions of the job apart."""


def native_id(job_id: str) -> str:
    """The job's id in Nomad."""
    return PREFIX + job_id


def variable(job_id: str, group: str = "") -> str:
    """Path of the variable that holds a ticket; Nomad lets only the job's (and the group's) own tasks read it."""
    path = f"nomad/jobs/{native_id(job_id)}"
    return f"{path}/{group}" if group else path


def notes(job_id: str) -> str:
    """Path of the variable with the job master's note for a later life of it."""
    return f"{variable(job_id, MASTER)}/note"


def group_name(text: str) -> str:
    """A group's name as Nomad's listings and paths of variables can have it."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", text)[:60] or "workers"


def shown_name(text: str) -> str:
    """The user's name of the job in one line."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line[:120]


def job_spec(allocation: Allocation, config: NomadConfig, mhz: float) -> dict[str, Any]:
    """The job as ``POST /v1/jobs`` takes it. Nothing in it is secret.

    :param mhz: of one CPU.
    :raises SubmissionRefusedError: the driver needs an image, or groups have one name.
    """
    if config.driver == "docker" and not config.image:
        raise SubmissionRefusedError(
            "the docker driver needs an image", why="rm.nomad.image is empty", remedy="set rm.nomad.image"
        )
    groups, base = [], 0
    for group in allocation.groups:
        if group.count > 0:
            groups.append(_group(allocation, config, group, mhz, base))
        base += group.count
    if allocation.master is not None:
        own = attrs.evolve(allocation.master, cpus=config.master_cpus, memory_mb=config.master_memory_mb)
        groups.append(_group(allocation, config, own, mhz, None))
    names = [group["Name"] for group in groups]
    if len(set(names)) < len(names):
        raise SubmissionRefusedError(
            "two groups of workers have one name",
            why=f"Nomad has groups {', '.join(names)} in one job",
            remedy="give each group a name of its own, other than 'master'",
        )
    return {
        "ID": native_id(allocation.job_id),
        "Name": shown_name(allocation.name) or native_id(allocation.job_id),
        "Type": "batch",
        **({"Region": config.region} if config.region else {}),
        **({"Namespace": config.namespace} if config.namespace else {}),
        "Datacenters": list(config.datacenters),
        **({"NodePool": config.node_pool} if config.node_pool else {}),
        "Priority": config.priority,
        "AllAtOnce": True,
        "Constraints": [constraint(text) for text in config.constraints],
        "Meta": {"twister2-job": allocation.job_id},
        "TaskGroups": groups,
    }


def _group(
    allocation: Allocation, config: NomadConfig, group: ResourceGroup, mhz: float, base: int | None
) -> dict[str, Any]:
    """One group; ``base`` is its first slot, None for the master's."""
    master = base is None
    name = MASTER if master else group_name(group.name)
    return {
        "Name": name,
        "Count": 1 if master else group.count,
        # A worker that ends is the job master's business: it knows the last checkpoint, and asks for another one.
        # A lost node's allocations Nomad places anew by itself. A master that dies Nomad starts again, where its files
        # are; when it does so no more, that is the end of the job.
        "RestartPolicy": {
            "Attempts": config.master_restarts if master else 0,
            "Interval": HOLD_S * SECOND,
            "Delay": SECOND,
            "Mode": "fail",
        },
        "ReschedulePolicy": {"Attempts": 0, "Interval": 0, "Unlimited": False},
        "EphemeralDisk": {"SizeMB": max(group.disk_mb, SMALLEST_DISK_MB)},
        "Tasks": [_task(allocation, config, group, mhz, base)],
    }


def _task(
    allocation: Allocation, config: NomadConfig, group: ResourceGroup, mhz: float, base: int | None
) -> dict[str, Any]:
    master = base is None
    command = allocation.master_command if master else allocation.worker_command
    ticket = "TWISTER2_MASTER_TICKET" if master else "TWISTER2_TICKET"
    path = variable(allocation.job_id, MASTER if master else "")
    task: dict[str, Any] = {
        "Name": TASK,
        "Driver": config.driver,
        "Config": _driver(config, ["" if master else str(base), str(math.ceil(config.stop_grace_s)), *command]),
        "Env": {**allocation.environment, ticket: "${NOMAD_SECRETS_DIR}/ticket"},
        "Templates": [
            {"EmbeddedTmpl": SCRIPT, "DestPath": "local/copy.sh", "ChangeMode": "noop", "Perms": "0755"},
            _secret(config, path, "ticket", "ticket"),
        ],
        "Resources": resources(config, group, mhz),
        "LogConfig": {"MaxFiles": 3, "MaxFileSizeMB": LOGS_MB},
        "KillSignal": "SIGTERM",
        "KillTimeout": math.ceil(config.stop_grace_s + 5) * SECOND,
    }
    if config.user:
        task["User"] = config.user
    if master:
        task["Templates"].append(_secret(config, path, "token", TOKEN))
        task["Identity"] = {"Env": True}
    return task


def _secret(config: NomadConfig, path: str, item: str, name: str) -> dict[str, Any]:
    """A file among the task's secrets that holds, and follows, an item of a variable."""
    text = f'{{{{ with nomadVar "{path}" }}}}{{{{ .{item}.Value | base64Decode }}}}{{{{ end }}}}'
    owner = {"Uid": config.ticket_uid, "Gid": -1} if config.ticket_uid >= 0 else {}
    return {
        "EmbeddedTmpl": text,
        "DestPath": f"secrets/{name}",
        "ChangeMode": "noop",
        "Perms": "0600",
        "Wait": {"Min": SOON, "Max": 10 * SOON},
        **owner,
    }


def _driver(config: NomadConfig, arguments: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {"command": "/bin/sh", "args": ["${NOMAD_TASK_DIR}/copy.sh", *arguments]}
    if config.driver == "docker":
        values = {"image": config.image, "network_mode": "host", "init": True, "entrypoint": [], **values}
    return values


def resources(config: NomadConfig, group: ResourceGroup, mhz: float) -> dict[str, Any]:
    """What a copy of a group asks for."""
    cpu: dict[str, Any] = {"CPU": max(1, round(group.cpus * mhz))}
    if config.cores:
        cpu = {"Cores": max(1, math.ceil(group.cpus))}
    devices = [{"Name": "gpu", "Count": group.gpus}] if group.gpus else []
    return {**cpu, "MemoryMB": group.memory_mb or config.memory_mb, **({"Devices": devices} if devices else {})}


def with_more_starts(job: Mapping[str, Any]) -> dict[str, Any]:
    """The job as a new version, in which copies that have ended are started again and those that run go on.

    Nomad places a batch job's ended copies again when the job has changed; a change of a setting that no running copy
    is affected by leaves the others alone. Workers are never restarted in place, so that the time in which restarts
    are counted is such a setting.
    """
    groups = []
    for group in job["TaskGroups"]:
        policy = dict(group["RestartPolicy"])
        if group["Name"] != MASTER:
            policy["Interval"] = int(policy["Interval"]) + SECOND
        groups.append({**group, "RestartPolicy": policy})
    return {**job, "TaskGroups": groups}


def resized(
    job: Mapping[str, Any], n_workers: int, like: ResourceGroup | None, wants: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The job with another number of workers; those that stay are not touched.

    :param like: what new ones are like, with :func:`resources` ``wants``; None: like the last one.
    """
    now = sum(count for _, _, count in worker_groups(job))
    groups = {group["Name"]: dict(group) for group in job["TaskGroups"]}
    last = worker_groups(job)[-1]
    if n_workers > now and like is not None:
        template = groups[last[0]]
        task = dict(template["Tasks"][0])
        task["Resources"] = {**wants} if wants else task["Resources"]
        arguments = list(task["Config"]["args"])
        arguments[1] = str(now)
        task["Config"] = {**task["Config"], "args": arguments}
        disk = {"SizeMB": max(like.disk_mb, SMALLEST_DISK_MB)}
        name = f"{group_name(like.name)}-{now}"
        added = {"Name": name, "Count": n_workers - now, "Tasks": [task], "EphemeralDisk": disk}
        groups[name] = {**template, **added}
    elif n_workers > now:
        groups[last[0]]["Count"] = last[2] + n_workers - now
    else:
        for name, base, count in worker_groups(job):
            groups[name]["Count"] = max(0, min(count, n_workers - base))
    return {**job, "TaskGroups": list(groups.values())}


def worker_groups(job: Mapping[str, Any]) -> list[tuple[str, int, int]]:
    """Name, first slot and number of workers of each group, in the order of slots."""
    found = []
    for group in job["TaskGroups"]:
        if group["Name"] != MASTER:
            base = group["Tasks"][0]["Config"]["args"][1]
            found.append((group["Name"], int(base), int(group["Count"])))
    return sorted(found, key=lambda each: (each[1], each[2] > 0))


def restarts_master(job: Mapping[str, Any]) -> bool:
    """Whether Nomad starts the job master again."""
    return any(group["Name"] == MASTER and group["RestartPolicy"]["Attempts"] for group in job["TaskGroups"])


def has_master(job: Mapping[str, Any]) -> bool:
    """Whether the job master runs in the job."""
    return any(group["Name"] == MASTER for group in job["TaskGroups"])
