"""Ending pods, and removing what a job has in the cluster."""

from __future__ import annotations

import math
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twister2.spec.errors import ResourceError
from twister2_rm_k8s import names
from twister2_rm_k8s.api import RefusedError
from twister2_rm_k8s.cluster import refusals
from twister2_rm_k8s.names import path, selector
from twister2_rm_k8s.states import over

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twister2.spec.rm import JobHandle
    from twister2_rm_k8s.cluster import Cluster

Object = dict[str, Any]
PAUSE_S = 0.05
CLEAN_S = 15.0
LOST_S = 3.0
"""How long a node that does not answer is waited for, beyond the grace."""
NOT_OVER = "status.phase!=Succeeded,status.phase!=Failed"
"""Pods that have ended keep their logs."""
KINDS = ("jobs", "pods", "secrets", "services", "configmaps")


class Ending:
    """For one cluster."""

    def __init__(self, cluster: Cluster, timeout_s: float) -> None:
        self._cluster, self._timeout_s = cluster, timeout_s

    def kill(self, handle: JobHandle, grace_s: float, *, mark: bool = True) -> None:
        """End every pod of a job but the calling one, and what would start others.

        :param mark: write down that it was killed.
        """
        api, namespace, jobs = self._cluster.api, self._cluster.namespace_of(handle), []
        self._cluster.forget()
        with refusals(f"job {handle.job_id} cannot be ended"):
            if mark and self._cluster.root(handle) is not None:
                where = path(namespace, "configmaps", names.object_name(handle.job_id))
                api.patch(where, {"metadata": {"annotations": {names.KILLED: "yes"}}})
            for job in self._cluster.all("jobs", handle):
                if not job_over(job) and not _own_job(job):
                    jobs.append(job["metadata"]["name"])
                    api.delete(path(namespace, "jobs", jobs[-1]))
        self.end_pods(handle, grace_s, lambda _: True, jobs=jobs, quiet=2)

    def end_pods(
        self,
        handle: JobHandle,
        grace_s: float,
        wanted: Callable[[Object], bool],
        *,
        jobs: Sequence[str] = (),
        quiet: int = 1,
    ) -> None:
        """TERM, after the grace KILL, until none of them is left.

        :param jobs: Jobs of which all pods are wanted. :param quiet: how often none must be seen: a controller may just
            be making one.
        :raises ResourceError: some do not go, or may not be deleted.
        """
        api, namespace = self._cluster.api, self._cluster.namespace_of(handle)
        for name in jobs:  # one request for all its pods that run. What that does not reach is told one by one below.
            with suppress(RefusedError, ResourceError):
                query = selector(handle.job_id, **{names.OWNER: name})
                api.delete(
                    path(namespace, "pods"), grace_s=_whole(grace_s), labelSelector=query, fieldSelector=NOT_OVER
                )
        whole_s, begun = _whole(grace_s), time.monotonic()
        told, seen = set[str](), 0
        while True:
            pods = [
                body
                for body in self._cluster.all("pods", handle, fresh=True)
                if not over(body) and wanted(body) and body["metadata"]["name"] != os.environ.get("HOSTNAME")
            ]
            waited = time.monotonic() - begun
            seen = 0 if pods else seen + 1
            if seen >= quiet:
                return
            asked = time.monotonic()
            for body in pods:
                name, uid = body["metadata"]["name"], body["metadata"]["uid"]
                lost = waited > whole_s + LOST_S and _node_lost(body)
                if not (uid in told or _ending(body, whole_s)) or (lost and f"{uid} lost" not in told):
                    told |= {uid, f"{uid} lost"} if lost else {uid}
                    with refusals(f"pod {name} cannot be deleted"):
                        api.delete(path(namespace, "pods", name), grace_s=0 if lost else whole_s)
            begun += time.monotonic() - asked  # pods have all the time, however many are asked for before them
            if pods and waited > whole_s + self._timeout_s:
                raise ResourceError(
                    f"{len(pods)} pods of job {handle.job_id} do not end",
                    why=f"{pods[0]['metadata']['name']} is {_doing(pods[0])}",
                    remedy="try again; a node that does not answer ends its pods when it is back, or removed",
                    where=f"namespace {namespace}",
                )
            time.sleep(PAUSE_S)

    def clean(self, handle: JobHandle) -> list[str]:
        """Delete all objects; what could not be, in words."""
        own = any(_own_job(job) for job in self._cluster.all("jobs", handle, fresh=True))
        end = time.monotonic() + min(CLEAN_S, self._timeout_s)
        while True:
            left = []
            for kind in KINDS:
                with refusals(f"the {kind} of job {handle.job_id} cannot be deleted"):
                    left += self.delete(handle, kind)
            self._cluster.forget()
            if not left or own or time.monotonic() > end:
                return [] if own else left
            time.sleep(PAUSE_S)

    def delete(self, handle: JobHandle, kind: str) -> list[str]:
        """Delete what there is of a kind, and say what there was.

        :raises RefusedError: it may not be deleted.
        """
        api, namespace = self._cluster.api, self._cluster.namespace_of(handle)
        found = self._cluster.all(kind, handle, fresh=True)
        # The node takes a second or two to say that a pod may go, also of one in which nothing runs any more.
        at_once = kind == "pods" and all(map(over, found))
        grace_s = 0 if at_once else None
        going = found if at_once else [body for body in found if not body["metadata"].get("deletionTimestamp")]
        if going:
            try:
                api.delete(path(namespace, kind), grace_s=grace_s, labelSelector=selector(handle.job_id))
            except RefusedError as error:
                if error.status not in (403, 405):
                    raise
                for body in going:
                    api.delete(path(namespace, kind, body["metadata"]["name"]), grace_s=grace_s)
        return [f"{kind.removesuffix('s')} {body['metadata']['name']}" for body in found]


def _whole(grace_s: float) -> int:
    """Kubernetes counts in seconds; 0 would not wait for the node."""
    return max(1, math.ceil(grace_s))


def _ending(body: Object, grace_s: int) -> bool:
    """Whether a pod was told to end within this time."""
    given = body["metadata"].get("deletionGracePeriodSeconds")
    return given is not None and given <= grace_s


def job_over(job: Object) -> bool:
    """Whether a Job has ended."""
    conditions = (job.get("status") or {}).get("conditions") or []
    return any(each.get("type") in ("Complete", "Failed") and each.get("status") == "True" for each in conditions)


def _own_job(job: Object) -> bool:
    """Whether the calling process is in a pod of it."""
    name = str(job["metadata"]["name"])
    with suppress(KeyError):
        return os.environ["HOSTNAME"].startswith(f"{name}-") and bool(os.environ.get("TWISTER2_K8S_IN_CLUSTER"))
    return False


def _node_lost(body: Object) -> bool:
    status = body.get("status") or {}
    conditions = status.get("conditions") or []
    disrupted = any(each.get("type") == "DisruptionTarget" and "Taint" in each.get("reason", "") for each in conditions)
    unready = any(each.get("type") == "Ready" and each.get("status") == "False" for each in conditions)
    return status.get("reason") == "NodeLost" or (unready and disrupted)


def _doing(body: Object) -> str:
    phase = str((body.get("status") or {}).get("phase"))
    node = (body.get("spec") or {}).get("nodeName") or "no node"
    return f"{'ending' if body['metadata'].get('deletionTimestamp') else phase.lower()} on {node}"
