"""The state of a job from its objects."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import attrs

from twister2.spec.rm import JobState, JobStatus, LogChunk
from twister2_rm_k8s import names, states
from twister2_rm_k8s.names import MASTER, ROLE, WORKER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twister2.spec.rm import JobHandle
    from twister2_rm_k8s.cluster import Cluster
    from twister2_rm_k8s.config import KubernetesConfig

Object = dict[str, Any]
NAMED = 5
"""How many slots a reason names."""


class Looker:
    """For one cluster."""

    def __init__(self, cluster: Cluster, config: KubernetesConfig) -> None:
        self._cluster, self._config = cluster, config

    def state(self, handle: JobHandle, *, fresh: bool = False) -> JobStatus:
        """See :meth:`twister2.spec.rm.ResourceManager.state`."""
        if fresh:
            self._cluster.forget()
        root = self._cluster.root(handle)
        if root is None:
            return JobStatus(JobState.UNKNOWN, "the cluster has nothing of it (any more)")
        jobs, pods = self._cluster.all("jobs", handle), self._cluster.all("pods", handle)
        of_workers = [job for job in jobs if _role(job) == WORKER]
        workers = states.workers(of_workers, [body for body in pods if _role(body) == WORKER], self._config)
        coming = self._coming(of_workers, workers)
        have = plan_slots(root)
        without = sorted(have - workers.keys())
        pending = self._why(handle, jobs, coming) or "the pods of its new workers start" if coming else ""
        workers = {slot: found for slot, found in workers.items() if slot in have and found not in coming}
        slots = {slot: _text(found) for slot, found in sorted(workers.items())}
        status = self._state(handle, root, jobs, pods, workers, slots)
        if without and not (status.state.final or status.reason):
            status = attrs.evolve(
                status, reason=f"no Job has slots {names.compress(without)} (deleted, or not made yet)"
            )
        return attrs.evolve(status, pending=pending)

    def _coming(self, jobs: list[Object], workers: dict[int, states.Pod]) -> list[states.Pod]:
        """Copies that a growing job waits for."""
        starts = {states.start_of(job) for job in jobs if names.GROWN in (job["metadata"].get("annotations") or {})}
        waiting = (JobState.QUEUED, JobState.STARTING)
        return [found for found in workers.values() if found.start in starts and found.state in waiting]

    def _state(
        self,
        handle: JobHandle,
        root: Object,
        jobs: list[Object],
        pods: list[Object],
        workers: dict[int, states.Pod],
        slots: dict[int, str],
    ) -> JobStatus:
        if ended := _from_outside(root, jobs, slots):
            return ended
        master = self._master(jobs, pods)
        if master is not None and master.state in (JobState.COMPLETED, JobState.FAILED):
            well = master.state is JobState.COMPLETED
            ended = (root["metadata"].get("annotations") or {}).get(names.ENDED) if well else None
            return JobStatus(
                JobState(ended) if ended else master.state, "" if well else f"the job master {master.text}", slots
            )
        everybody = [*([master] if master else []), *workers.values()]
        waiting = [found for found in everybody if found.state is JobState.QUEUED]
        stuck = next((f"{_who(found)}: {found.text}" for found in everybody if found.hopeless), "")
        if hopeless := stuck or self._refused(handle, jobs, waiting):
            return JobStatus(JobState.FAILED, hopeless, slots)
        if (
            master is None
            and len(waiting) < len(everybody)
            and all(found.text.startswith("exited") for found in everybody)
        ):
            return self._ended(workers, slots)
        if waiting and (reason := self._why(handle, jobs, waiting)):
            started = [found for found in everybody if found.state is not JobState.QUEUED]
            state = JobState.RUNNING if any(_began(found) for found in started) else JobState.QUEUED
            return JobStatus(state, reason, slots)
        if any(_began(found) for found in everybody):
            late = master is not None and not _began(master) and any(map(_began, workers.values()))
            return JobStatus(JobState.RUNNING, f"the job master {master.text}" if master and late else "", slots)
        if any(found.state is JobState.STARTING for found in everybody):
            return JobStatus(JobState.STARTING, _texts(everybody, JobState.STARTING), slots)
        return JobStatus(JobState.QUEUED, "", slots)

    def _ended(self, workers: dict[int, states.Pod], slots: dict[int, str]) -> JobStatus:
        failed = [found for found in workers.values() if found.code]
        if not failed:
            return JobStatus(JobState.COMPLETED, "", slots)
        shown = ", ".join(
            f"slot {found.slot} {found.text}" for found in sorted(failed, key=lambda each: each.slot)[:NAMED]
        )
        more = f", and {len(failed) - NAMED} others" if len(failed) > NAMED else ""
        return JobStatus(JobState.FAILED, shown + more, slots)

    def _master(self, jobs: list[Object], pods: list[Object]) -> states.Pod | None:
        """The master's pod; None when the job has no master here."""
        own = [job for job in jobs if _role(job) == MASTER]
        bodies = sorted(
            (body for body in pods if _role(body) == MASTER),
            key=lambda body: str(body["metadata"]["creationTimestamp"]),
        )
        again = bool(own) and states.starts_again(own[0])
        if own and (failed := states.job_failed(own[0], ("Failed", "FailureTarget"))) and not self._well(bodies):
            what = states.ended_by((bodies[-1].get("status") or {}) if bodies else {})
            text = f"ended{f' ({what})' if what else ''}: {failed}"
            return states.Pod("", -1, 0, JobState.FAILED, text, states.EXIT_UNKNOWN)
        if bodies:
            found = states.pod(bodies[-1], -1, 0, self._config)
            return states.returning(found, bodies[-1]) if again else found
        if not own:
            return None
        return states.Pod("", -1, 0, JobState.QUEUED, "has no pod yet")

    def _well(self, bodies: list[Object]) -> bool:
        return bool(bodies) and states.pod(bodies[-1], -1, 0, self._config).state is JobState.COMPLETED

    def master_returns(self, handle: JobHandle) -> bool:
        """See :meth:`twister2.spec.rm.ResourceManager.master_returns`."""
        root = self._cluster.root(handle, fresh=True)
        if root is None or root["metadata"].get("deletionTimestamp"):
            return False
        if (root["metadata"].get("annotations") or {}).get(names.KILLED):
            return False
        own = [job for job in self._cluster.all("jobs", handle, fresh=True) if _role(job) == MASTER]
        return bool(own) and states.starts_again(own[0])

    def _why(self, handle: JobHandle, jobs: list[Object], waiting: list[states.Pod]) -> str:
        """Why pods wait, in plain words."""
        for job in jobs:
            if states.suspended(job):
                return f"waits to be admitted by its queue {self._config.queue}".rstrip() + " (Suspended)"
        texts = Counter(found.text for found in waiting if found.name)
        if texts and (text := texts.most_common(1)[0][0]) != "waits for a node":
            return f"{texts[text]} of {len(waiting)} waiting pods: {text}"
        if any(not found.name for found in waiting):
            for job in jobs:
                made = [event for event in self._events(handle, job) if event["type"] == "Warning"]
                if made:
                    return states.cannot_be_made(made[-1])
        return ""

    def _refused(self, handle: JobHandle, jobs: list[Object], waiting: list[states.Pod]) -> str:
        """Why a Job never gets a pod, although that was tried again and again; empty when it may."""
        if all(found.name for found in waiting):
            return ""
        never = (job for job in jobs if states.without_pods(job))
        return next((why for job in never if (why := states.never_made(self._events(handle, job)))), "")

    def _events(self, handle: JobHandle, job: Object) -> list[Object]:
        return self._cluster.events(handle, "Job", job["metadata"]["name"])

    def slots_of_pods(self, handle: JobHandle, pods: list[Object]) -> dict[str, int]:
        """The slot of each pod by its name, -1 for the master's."""
        own = {
            job["metadata"]["name"]: names.expand((job["metadata"].get("annotations") or {}).get(names.SLOTS, ""))
            for job in self._cluster.all("jobs", handle)
        }
        found: dict[str, int] = {}
        for body in pods:
            slots = own.get(body["metadata"]["labels"].get(names.OWNER, ""), [])
            index = states.index_of(body)
            found[body["metadata"]["name"]] = slots[index] if _role(body) == WORKER and index < len(slots) else -1
        return found

    def said(self, handle: JobHandle, slot: int | None) -> Iterator[LogChunk]:
        """What the cluster says of pods that do not start, as their log."""
        pods = [
            body for body in self._cluster.all("pods", handle) if (body.get("status") or {}).get("phase") == "Pending"
        ]
        slots = self.slots_of_pods(handle, pods)
        for body in pods[:NAMED]:
            name = body["metadata"]["name"]
            if slot in (None, slots[name]):
                for event in self._cluster.events(handle, "Pod", name):
                    text = f"{name}: {event.get('message', '')} ({event.get('reason', '')})\n"
                    yield LogChunk(slots[name], "manager", text)


def plan_slots(root: Object) -> set[int]:
    """The slots that a job has now."""
    plan = json.loads(root["data"]["plan.json"])
    return {slot for job in plan["workers"] for slot in names.expand(job["metadata"]["annotations"][names.SLOTS])}


def _from_outside(root: Object, jobs: list[Object], slots: dict[int, str]) -> JobStatus | None:
    """The state of a job that was killed, or of which somebody has deleted what it does not go on without."""
    noted = root["metadata"].get("annotations") or {}
    if noted.get(names.KILLED):
        return JobStatus(JobState.KILLED, "was killed", slots)
    has_master = json.loads(root["data"]["plan.json"]).get("master")
    if jobs and not (has_master and all(_role(job) != MASTER for job in jobs)):
        return None
    if names.ENDED in noted:
        return JobStatus(JobState(noted[names.ENDED]), "", slots)
    what = "the Job of its job master was" if jobs else "its Jobs were"
    return JobStatus(JobState.FAILED, f"{what} deleted in the cluster", slots)


def _role(body: Object) -> str:
    return str((body["metadata"].get("labels") or {}).get(ROLE, ""))


def _who(found: states.Pod) -> str:
    return "the job master's pod" if found.slot < 0 else f"worker {found.slot}"


def _text(found: states.Pod) -> str:
    """Of a slot: that it waits for room comes first."""
    told = found.state is not JobState.QUEUED or found.text.startswith("waits")
    return found.text if told else f"waits: {found.text}"


def _began(found: states.Pod) -> bool:
    return found.state in (JobState.RUNNING, JobState.COMPLETED, JobState.FAILED)


def _texts(everybody: list[states.Pod], state: JobState) -> str:
    texts = Counter(found.text for found in everybody if found.state is state)
    text, count = texts.most_common(1)[0]
    return f"{count} of {len(everybody)} pods: {text}"
