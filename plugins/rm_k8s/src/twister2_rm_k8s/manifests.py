"""The objects of a job, as plain data.

A ConfigMap is the root, with what a later attempt needs; everything else belongs to it, so that deleting it deletes
all. Workers are Indexed Jobs, one for each group and one for each later start; the master is a Job of one pod.
"""

from __future__ import annotations

import base64
import copy
import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twister2.spec.errors import SubmissionRefusedError
from twister2_rm_k8s import names
from twister2_rm_k8s.kubeconfig import IN_CLUSTER
from twister2_rm_k8s.names import MASTER, WORKER, compress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twister2.spec.rm import Allocation, ResourceGroup
    from twister2_rm_k8s.config import KubernetesConfig

Object = dict[str, Any]

COPY = """slots=$1; shift; left=$JOB_COMPLETION_INDEX; IFS=,
for range in $slots; do
  first=${range%-*}; size=$((${range#*-} - first + 1))
  if [ "$left" -lt "$size" ]; then TWISTER2_SLOT=$((first + left)); break; fi
  left=$((left - size))
done
unset IFS; export TWISTER2_SLOT
exec "$@\""""
"""First command of a worker: finds its slot, which is the one at its completion index of a list such as 0-3,7."""

NO_RETRY = 0
"""A lost worker is the job master's business: it starts the next attempt from the last checkpoint."""
SLACK_S = 900
"""How much later than the job master, which keeps the walltime, Kubernetes ends workers: it counts from when a node has
taken the pod, so that the image is pulled within."""
AWAY = ("node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready")
AWAY_S = 5
"""How long the job master stays on a node that Kubernetes has found not to answer. The usual 300 s are longer than any
worker waits for it."""
ENV_NAME = re.compile(r"[ -<>-~]+")
TITLE_LENGTH = 1000


class Manifests:
    """All objects of one job."""

    def __init__(self, allocation: Allocation, config: KubernetesConfig, namespace: str) -> None:
        """:raises SubmissionRefusedError: the options cannot be made a pod of."""
        if not config.image:
            raise SubmissionRefusedError(
                "no image is named for the pods",
                why="rm.k8s.image is empty",
                remedy="build one (docs: 'Kubernetes') and name it: -o rm.k8s.image=registry/name:tag",
            )
        self.allocation, self.config, self.namespace = allocation, config, namespace
        self.name = names.object_name(allocation.job_id)
        self._overrides = _template(config)

    # -- small objects -------------------------------------------------------------------------------------------------

    def root(self) -> Object:
        """The ConfigMap: the Jobs that start workers again, by group."""
        workers = [self.workers(number) for number in range(len(self._groups))]
        plan = {"master": self.allocation.master is not None, "workers": workers}
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": self._metadata(self.name),
            "data": {"plan.json": json.dumps(plan, separators=(",", ":"))},
        }

    def secret(self, *, master: bool = False, hide: bool = False) -> Object:
        ticket = self.allocation.master_ticket if master else self.allocation.ticket
        data = {"data": {names.TICKET: base64.b64encode(ticket).decode()}}
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": self._metadata(self.name + ("-master" if master else "")),
            "type": "Opaque",
            **({"stringData": {names.TICKET: "(not shown)"}} if hide else data),
        }

    def service(self) -> Object:
        """Headless: names for the pods, also before they are ready."""
        return {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": self._metadata(self.name),
            "spec": {
                "clusterIP": "None",
                "publishNotReadyAddresses": True,
                "selector": {names.JOB: self.allocation.job_id},
            },
        }

    # -- Jobs ----------------------------------------------------------------------------------------------------------

    @property
    def _groups(self) -> list[tuple[ResourceGroup, list[int]]]:
        """Groups that have workers, and their slots."""
        groups, first = [], 0
        for group in self.allocation.groups:
            if group.count > 0:
                groups.append((group, list(range(first, first + group.count))))
            first += group.count
        return groups

    def workers(self, number: int) -> Object:
        """The Job that starts a group."""
        group, slots = self._groups[number]
        command = list(self.allocation.worker_command)
        return self._job(
            f"{self.name}-{number}",
            WORKER,
            group,
            ["/bin/sh", "-c", COPY, "twister2-copy", compress(slots), *command],
            labels={names.START: str(number), names.GROUP: label(group.name)},
            slots=slots,
        )

    def master(self) -> Object:
        """The Job of the job master."""
        group = self.allocation.master
        assert group is not None
        command = list(self.allocation.master_command)
        job = self._job(f"{self.name}-master", MASTER, group, command, labels={}, slots=[])
        spec = job["spec"]
        # A pod whose node has died is being deleted for ever: the next one does not wait for its end. Should both run,
        # the earlier one gives up.
        spec["podReplacementPolicy"] = "TerminatingOrFailed"
        if self.config.master_restarts:
            # In its pod, where its files are; in a new one when the pod is gone. It ends with 0 when the job has ended.
            del spec["completionMode"], spec["backoffLimitPerIndex"]
            spec["backoffLimit"] = self.config.master_restarts + 1  # the job fails when there are so many restarts
            spec["template"]["spec"]["restartPolicy"] = "OnFailure"
        if self.config.keep_s:
            spec["ttlSecondsAfterFinished"] = math.ceil(self.config.keep_s)
        return job

    def all(self, *, hide: bool = False) -> list[Object]:
        """Everything, the root first."""
        master = self.allocation.master is not None
        small = [self.secret(hide=hide), *([self.secret(master=True, hide=hide)] if master else []), self.service()]
        jobs = [*([self.master()] if master else []), *(self.workers(number) for number in range(len(self._groups)))]
        return [self.root(), *small, *jobs]

    def _metadata(self, name: str, **labels: str) -> Object:
        return {
            "name": name,
            "namespace": self.namespace,
            "labels": {
                **self.config.labels,
                names.MANAGED: "twister2",
                names.JOB: self.allocation.job_id,
                **labels,
            },
            "annotations": {names.TITLE: self.allocation.name[:TITLE_LENGTH]},
        }

    def _job(
        self,
        name: str,
        role: str,
        group: ResourceGroup,
        command: list[str],
        *,
        labels: Mapping[str, str],
        slots: list[int],
    ) -> Object:
        config = self.config
        metadata = self._metadata(name, **{names.ROLE: role}, **labels)
        if config.queue:
            metadata["labels"]["kueue.x-k8s.io/queue-name"] = config.queue
        spec: Object = {
            "completions": len(slots) or 1,
            "parallelism": len(slots) or 1,
            "completionMode": "Indexed",
            "backoffLimitPerIndex": NO_RETRY,
            "podReplacementPolicy": "Failed",
            "template": self._pod(role, group, command, labels),
        }
        if role == WORKER:
            metadata["annotations"][names.SLOTS] = compress(slots)
        return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}

    def _pod(self, role: str, group: ResourceGroup, command: list[str], labels: Mapping[str, str]) -> Object:
        config, job_id = self.config, self.allocation.job_id
        account = config.service_account if role == MASTER else config.worker_service_account
        secrets = [(TICKET_VOLUME, f"{names.FOLDER}/{self.allocation.job_id}/ticket", self.name)]
        if role == MASTER:
            secrets.append(("master-ticket", f"{names.FOLDER}/{self.allocation.job_id}/master", f"{self.name}-master"))
        spec: Object = {
            "restartPolicy": "Never",
            "subdomain": self.name,
            "automountServiceAccountToken": bool(account),
            "enableServiceLinks": False,
            "shareProcessNamespace": True,
            "terminationGracePeriodSeconds": 10,
            "securityContext": self._pod_security(),
            "containers": [
                {
                    "name": role,
                    "image": config.image,
                    "command": [_literal(word) for word in command],
                    "env": self._environment(role),
                    "resources": resources(config, role, group),
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": config.read_only_root,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [
                        *({"name": name, "mountPath": folder, "readOnly": True} for name, folder, _ in secrets),
                        {"name": "scratch", "mountPath": "/tmp"},
                    ],
                    "terminationMessagePolicy": "FallbackToLogsOnError",
                }
            ],
            "volumes": [
                *(
                    {"name": name, "secret": {"secretName": secret, "defaultMode": 0o440 if config.user else 0o400}}
                    for name, _, secret in secrets
                ),
                {"name": "scratch", "emptyDir": self._scratch(group)},
            ],
        }
        optional = {
            "serviceAccountName": account,
            "nodeSelector": dict(config.node_selector),
            "priorityClassName": config.priority_class,
            "schedulerName": config.scheduler,
            "imagePullSecrets": [{"name": name} for name in config.pull_secrets],
        }
        spec |= {key: value for key, value in optional.items() if value}
        if role == WORKER and self.allocation.walltime_s:
            # Of pods: that of a Job counts from its creation, and its pods may wait for nodes. So may the workers of a
            # master that runs.
            spec["activeDeadlineSeconds"] = self.allocation.walltime_s + SLACK_S
        if config.image_pull_policy:
            spec["containers"][0]["imagePullPolicy"] = config.image_pull_policy
        pod = {
            "metadata": {
                "labels": {**config.labels, names.MANAGED: "twister2", names.JOB: job_id, names.ROLE: role, **labels},
                "annotations": {names.TITLE: self.allocation.name[:TITLE_LENGTH], **config.annotations},
            },
            "spec": spec,
        }
        made = merged(pod, self._overrides, role)
        if role == MASTER:
            given = made["spec"].get("tolerations") or []
            made["spec"]["tolerations"] = [*given, *_away(given)]
        return made

    def _pod_security(self) -> Object:
        context: Object = {"seccompProfile": {"type": "RuntimeDefault"}}
        if user := self.config.user:
            context |= {"runAsNonRoot": True, "runAsUser": user, "runAsGroup": user, "fsGroup": user}
        return context

    def _environment(self, role: str) -> list[Object]:
        values = {"HOME": "/tmp", "TMPDIR": "/tmp", "PYTHONDONTWRITEBYTECODE": "1", **self.allocation.environment}
        values["TWISTER2_TICKET"] = f"{names.FOLDER}/{self.allocation.job_id}/ticket/{names.TICKET}"
        if role == MASTER:
            values["TWISTER2_MASTER_TICKET"] = f"{names.FOLDER}/{self.allocation.job_id}/master/{names.TICKET}"
            values[IN_CLUSTER] = "1"
        return [{"name": key, "value": _literal(value)} for key, value in values.items() if ENV_NAME.fullmatch(key)]

    def _scratch(self, group: ResourceGroup) -> Object:
        size = self.config.scratch_mb or group.disk_mb
        return {"sizeLimit": f"{size}Mi"} if size else {}


TICKET_VOLUME = "ticket"


def resources(config: KubernetesConfig, role: str, group: ResourceGroup) -> Object:
    """Requests and limits of a container."""
    cpus = config.master_cpus if role == MASTER else group.cpus
    memory = config.master_memory_mb if role == MASTER else group.memory_mb
    requests: Object = {"cpu": f"{max(1, math.ceil(cpus * 1000))}m"}
    limits: Object = {}
    if memory:
        requests["memory"] = limits["memory"] = f"{memory}Mi"
    if group.disk_mb:
        requests["ephemeral-storage"] = limits["ephemeral-storage"] = f"{group.disk_mb}Mi"
    if group.gpus:
        limits[config.gpu_resource] = str(group.gpus)
    if config.cpu_limits:
        limits["cpu"] = requests["cpu"]
    return {"requests": requests, **({"limits": limits} if limits else {})}


def owned(body: Object, root: Object) -> Object:
    """The object as one that goes with the root."""
    return {**body, "metadata": {**body["metadata"], **by("v1", "ConfigMap", root)}}


def by(api: str, kind: str, owner: Object) -> Object:
    """What the metadata of an object say that goes with another."""
    own = {"name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]}
    return {"ownerReferences": [{"apiVersion": api, "kind": kind, **own}]}


def again(job: Object, name: str, start: int, slots: list[int]) -> Object:
    """A group's Job for other slots of it, started later."""
    job = copy.deepcopy(job)
    job["metadata"]["name"] = name
    job["metadata"]["annotations"][names.SLOTS] = compress(slots)
    job["spec"]["completions"] = job["spec"]["parallelism"] = len(slots)
    for labels in (job["metadata"]["labels"], job["spec"]["template"]["metadata"]["labels"]):
        labels[names.START] = str(start)
    command = job["spec"]["template"]["spec"]["containers"][0]["command"]
    command[command.index("twister2-copy") + 1] = compress(slots)
    return job


def of_group(job: Object, group: ResourceGroup, config: KubernetesConfig) -> Object:
    """The Job of a group for workers of another."""
    job = copy.deepcopy(job)
    template = job["spec"]["template"]
    for labels in (job["metadata"]["labels"], template["metadata"]["labels"]):
        labels[names.GROUP] = label(group.name)
    template["spec"]["containers"][0]["resources"] = resources(config, WORKER, group)
    return job


def _away(given: list[Any]) -> list[Object]:
    """Tolerations of what these say nothing of: a node that does not answer. One without a key is for all taints."""
    evicted = [each for each in given if isinstance(each, dict) and each.get("effect") in (None, "", "NoExecute")]
    said = {key for each in evicted for key in AWAY if each.get("key") in (None, "", key)}
    return [
        {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": AWAY_S}
        for key in AWAY
        if key not in said
    ]


def merged(pod: Object, overrides: Object, role: str) -> Object:
    """A pod template with the user's over it: mappings are merged, null removes, lists of named things are merged by
    their names, other lists replaced. The container of ours may be called ``worker``, ``master`` or ``"*"``.
    """
    return _merge(pod, overrides, role) if overrides else pod


def _merge(old: Any, new: Any, role: str) -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        mapping = dict(old)
        for key, value in new.items():
            if value is None:
                mapping.pop(key, None)
            else:
                mapping[key] = _merge(mapping.get(key), value, role)
        return mapping
    if (
        isinstance(old, list)
        and isinstance(new, list)
        and all(isinstance(item, dict) and "name" in item for item in new)
    ):
        return _merge_named(old, new, role)
    return new


def _merge_named(old: list[Any], new: list[Any], role: str) -> list[Any]:
    result = list(old)
    known = {item.get("name"): at for at, item in enumerate(old) if isinstance(item, dict)}
    other = MASTER if role == WORKER else WORKER
    for item in new:
        if item["name"] == other and "image" not in item:  # what is said of the container of the other kind of pod
            continue
        name = role if item["name"] == "*" else item["name"]
        # mounts of one volume in several places are told apart by the place
        at = None if "mountPath" in item else known.get(name)
        if at is None:
            result.append({**item, "name": name})
        else:
            result[at] = _merge(result[at], {**item, "name": name}, role)
    return result


def _template(config: KubernetesConfig) -> Object:
    if not config.pod_template:
        return {}
    import yaml

    source = Path(config.pod_template).expanduser()
    try:
        values = yaml.safe_load(source.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise _wrong_template(source, str(error).replace("\n", " ")) from error
    if isinstance(values, dict) and values.get("kind") in ("Pod", "PodTemplate"):
        values = values.get("template") or {key: values[key] for key in ("metadata", "spec") if key in values}
    if not isinstance(values, dict) or not set(values) <= {"metadata", "spec"}:
        raise _wrong_template(source, "it is no mapping with 'metadata' and 'spec', as the template of a pod is")
    return values


def _wrong_template(source: Path, why: str) -> SubmissionRefusedError:
    return SubmissionRefusedError(
        "the pod template cannot be used",
        why=why,
        remedy="mend the file that rm.k8s.pod_template names",
        where=str(source),
    )


def _literal(text: str) -> str:
    """Kubernetes would put variables into ``$(NAME)``."""
    return text.replace("$", "$$")


def label(text: str) -> str:
    """A text as the value of a label."""
    kept = re.sub(r"[^A-Za-z0-9._-]", "-", text)[:63].strip("-._")
    return kept or "group"
