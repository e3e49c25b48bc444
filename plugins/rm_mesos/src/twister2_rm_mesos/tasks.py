"""What a job is to Mesos: a framework, and a task for each worker."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from twister2.spec.errors import SubmissionRefusedError
from twister2_rm_mesos.api import submitter

if TYPE_CHECKING:
    from twister2.spec.rm import Allocation, ResourceGroup
    from twister2_rm_mesos.config import MesosConfig

CAPABILITIES = ("MULTI_ROLE", "PARTITION_AWARE", "TASK_KILLING_STATE")
GRACE_S = 5.0
"""How long a copy that Mesos itself ends may take."""
DESK, DESK_KEY = "TWISTER2_MESOS_DESK", "TWISTER2_MESOS_DESK_KEY"
TASK, CLAIM = "TWISTER2_MESOS_TASK", "TWISTER2_MESOS_CLAIM"
"""Where a copy fetches its ticket, the public key of who answers there, who it is, and what proves it: good once."""


@attrs.frozen
class Plan:
    """What the scheduler needs of an allocation; plain data, nothing secret.

    :ivar slots: what each slot wants, by Mesos' names of resources.
    """

    job_id: str
    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    slots: tuple[Mapping[str, float], ...]
    config: Mapping[str, Any]

    @classmethod
    def of(cls, allocation: Allocation, config: MesosConfig) -> Plan:
        """:raises SubmissionRefusedError: a containerizer needs an image."""
        if config.container != "none" and not config.image:
            raise SubmissionRefusedError(
                f"container '{config.container}' needs an image", why="rm.mesos.image is empty", remedy="set it"
            )
        slots = [wants(group, config) for group in allocation.groups for _ in range(group.count)]
        return cls(
            job_id=allocation.job_id,
            name=shown_name(allocation.name) or allocation.job_id,
            command=allocation.worker_command,
            environment=dict(allocation.environment),
            slots=tuple(slots),
            config=attrs.asdict(config) | {name: _whole(getattr(config, name)) for name in ("secret_file", "ca_cert")},
        )

    def to_dict(self) -> dict[str, Any]:
        return attrs.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Plan:
        return cls(**{**data, "command": tuple(data["command"]), "slots": tuple(data["slots"])})


def _whole(path: str) -> str:
    """A path that means the same wherever a scheduler is started."""
    return str(pathlib.Path(path).expanduser().absolute()) if path else ""


def wants(group: ResourceGroup, config: MesosConfig) -> dict[str, float]:
    """The resources of one copy."""
    found = {"cpus": group.cpus, "mem": float(group.memory_mb or config.memory_mb)}
    if group.disk_mb:
        found["disk"] = float(group.disk_mb)
    if group.gpus:
        found["gpus"] = float(group.gpus)
    return found


def shown_name(text: str) -> str:
    """The user's name of the job in one line."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:120]


def framework(plan: Plan, config: MesosConfig, framework_id: str = "") -> dict[str, Any]:
    """The framework's info."""
    gpus = any("gpus" in each for each in plan.slots)
    info: dict[str, Any] = {
        "user": config.user or submitter(),
        "name": f"twister2: {plan.name}",
        "roles": [config.role],
        "failover_timeout": config.failover_s,
        "checkpoint": True,
        "capabilities": [{"type": name} for name in (*CAPABILITIES, *(("GPU_RESOURCES",) if gpus else ()))],
        "labels": {"labels": [{"key": "twister2-job", "value": plan.job_id}]},
    }
    if config.principal:
        info["principal"] = config.principal
    if framework_id:
        info["id"] = {"value": framework_id}
    return info


def command(plan: Plan, config: MesosConfig, slot: int, desk: Mapping[str, str]) -> dict[str, Any]:
    """The command of one copy, which starts it through :mod:`twister2_rm_mesos.copy`.

    :param desk: further variables: where its ticket is.
    """
    python = config.python or (plan.command[0] if "python" in plan.command[0].rpartition("/")[2] else sys.executable)
    environment = {**plan.environment, "TWISTER2_SLOT": str(slot), **desk}
    return {
        "shell": False,
        "value": python,
        "arguments": [python, "-m", "twister2_rm_mesos.copy", *plan.command],
        "environment": {"variables": [{"name": name, "value": value} for name, value in environment.items()]},
        **({"user": config.user} if config.user else {}),
    }


def task(
    plan: Plan, config: MesosConfig, slot: int, task_id: str, desk: Mapping[str, str], place: Mapping[str, Any]
) -> dict[str, Any]:
    """A task's info.

    :param place: its ``agent_id`` and ``resources``.
    """
    info = {
        "name": f"{plan.name} {slot}",
        "task_id": {"value": task_id},
        **place,
        "command": command(plan, config, slot, desk),
        "kill_policy": {"grace_period": {"nanoseconds": int(GRACE_S * 1e9)}},
        "labels": {"labels": [{"key": "twister2-slot", "value": str(slot)}]},
    }
    if config.container == "docker":
        info["container"] = {"type": "DOCKER", "docker": {"image": config.image, "network": "HOST"}}
    elif config.container == "mesos":
        image = {"type": "DOCKER", "docker": {"name": config.image}}
        info["container"] = {"type": "MESOS", "mesos": {"image": image}}
    return info


def rendered(plan: Plan, config: MesosConfig, head: Sequence[str]) -> dict[str, Any]:
    """What ``submit`` would say to Mesos, with words in place of what is known only then, after a remark."""
    desk = {DESK: "(address of this host)", DESK_KEY: "(public key)", TASK: "(its id)", CLAIM: "(good once)"}
    tasks = []
    for slot, amounts in enumerate(plan.slots):
        resources = [{"name": name, "type": "SCALAR", "scalar": {"value": value}} for name, value in amounts.items()]
        place = {"agent_id": {"value": "(an agent's that offers this)"}, "resources": resources}
        tasks.append(task(plan, config, slot, f"{plan.job_id}.{slot}.1", desk, place))
    return {
        "//": [*head],
        "masters": list(config.masters),
        "SUBSCRIBE": {"framework_info": framework(plan, config)},
        "constraints": list(config.constraints),
        "ACCEPT": {"operations": [{"type": "LAUNCH", "launch": {"task_infos": tasks}}]},
    }
