"""What Nomad says of a job, in the words of the contract."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from twister2.spec.rm import JobState, JobStatus
from twister2_rm_nomad.jobspec import MASTER, TASK, has_master, worker_groups

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ENDED = ("complete", "failed", "lost")
TOLD = ("Driver Failure", "Failed Validation", "Setup Failure", "Failed Artifact Download", "Template", "Killing")
SHOWN = 3
"""Slots that a reason names."""
DIMENSIONS = {
    "cpu": "CPU (job.cpus)",
    "memory": "memory (job.memory_mb)",
    "disk": "disk",
    "cores": "whole cores",
    "network: port collision": "ports",
    "devices": "devices such as GPUs (job.gpus)",
}


@attrs.frozen
class Copy:
    """The latest allocation of a slot, or of the master.

    :ivar slot: -1 for the master.
    """

    slot: int
    alloc: Mapping[str, Any]

    @property
    def ended(self) -> bool:
        return self.alloc["ClientStatus"] in ENDED

    @property
    def task(self) -> Mapping[str, Any]:
        return (self.alloc.get("TaskStates") or {}).get(TASK) or {}

    @property
    def events(self) -> list[Mapping[str, Any]]:
        return self.task.get("Events") or []

    def ending(self) -> str:
        """``"exited 137 (killed)"``, or why it never ran."""
        for event in reversed(self.events):
            if event["Type"] == "Terminated":
                code, number = int(event.get("ExitCode") or 0), int(event.get("Signal") or 0)
                code = 128 + number if number and not code else code
                oom = (event.get("Details") or {}).get("oom_killed") == "true"
                return f"exited {code}{' (out of memory)' if oom else named(code)}"
            if event["Type"] in TOLD and event.get("DisplayMessage"):
                return f"failed: {event['DisplayMessage']}"
        if self.alloc["ClientStatus"] == "lost":
            return f"lost with its node {self.alloc.get('NodeName') or self.alloc.get('NodeID', '')}"
        return f"ended: {self.alloc.get('ClientDescription') or self.alloc['ClientStatus']}"

    @property
    def restarts(self) -> int:
        """How often it was started again in its place."""
        return int(self.task.get("Restarts") or 0)

    @property
    def ran(self) -> bool:
        """Whether it has begun to run."""
        return self.task.get("State") == "running" or self.ended

    @property
    def well(self) -> bool:
        return self.alloc["ClientStatus"] == "complete" and not self.task.get("Failed")


def named(code: int) -> str:
    """The signal behind an exit code above 128, in parentheses."""
    try:
        return f" ({signal.Signals(code - 128).name})" if code > 128 else ""
    except ValueError:
        return ""


def index(alloc: Mapping[str, Any]) -> int:
    """The index of an allocation in its group: ``twister2-x.worker[3]`` has 3."""
    return int(str(alloc["Name"]).rpartition("[")[2].rstrip("]") or 0)


def copies(job: Mapping[str, Any], allocs: Iterable[Mapping[str, Any]]) -> dict[int, Copy]:
    """The latest copy of each slot that ever had one; the master is slot -1."""
    bases = {name: (base, count) for name, base, count in worker_groups(job)}
    found: dict[int, Copy] = {}
    for alloc in sorted(allocs, key=lambda each: int(each["CreateIndex"])):
        slot = slot_of(bases, alloc)
        # Of a job that has changed Nomad starts again what has ended: how it did no longer counts.
        over = alloc["ClientStatus"] in ENDED and int(alloc["JobVersion"]) < int(job["Version"]) and not job.get("Stop")
        if slot is not None and not (over and slot >= 0):
            found[slot] = Copy(slot, alloc)
    return found


def slot_of(bases: Mapping[str, tuple[int, int]], alloc: Mapping[str, Any]) -> int | None:
    """The slot of an allocation, -1 for the master, None for one that the job no longer has."""
    if alloc["TaskGroup"] == MASTER:
        return -1
    base, count = bases.get(alloc["TaskGroup"], (0, 0))
    number = index(alloc)
    return base + number if number < count else None


def status(
    job: Mapping[str, Any], allocs: Sequence[Mapping[str, Any]], evals: Sequence[Mapping[str, Any]]
) -> JobStatus:
    """What callers of ``state`` get."""
    found = copies(job, allocs)
    workers = {slot: copy for slot, copy in found.items() if slot >= 0}
    slots = {slot: copy.ending() for slot, copy in sorted(workers.items()) if copy.ended}
    n = sum(count for _, _, count in worker_groups(job))
    if job.get("Stop"):
        return _stopped(job, found, slots)
    master = found.get(-1)
    if has_master(job):
        if master is not None and master.ended and master.alloc["ClientStatus"] != "lost":
            return _by_master(master, slots)
    elif len(slots) == n:
        bad = {slot: text for slot, text in slots.items() if not workers[slot].well}
        return JobStatus(JobState.FAILED if bad else JobState.COMPLETED, culprits(bad), slots)
    return _alive(job, found, slots, evals, n + has_master(job))


def _alive(
    job: Mapping[str, Any],
    found: Mapping[int, Copy],
    slots: Mapping[int, str],
    evals: Sequence[Mapping[str, Any]],
    wanted: int,
) -> JobStatus:
    """A job that has not ended: what it waits for."""
    began = int(job["Version"]) > 0 and any(copy.ran for copy in found.values())  # it has grown, or restarts slots
    if len(found) < wanted:
        reason = waiting(evals, len(found), wanted)
        if held(evals):
            places = (range(base, base + count) for _, base, count in worker_groups(job))
            absent = [slot for slot in itertools.chain(*places) if slot not in found]
            slots = {**slots, **dict.fromkeys(absent, f"waits: {reason}")}
        if began:
            return JobStatus(JobState.RUNNING, "", slots, pending=reason)
        return JobStatus(JobState.STARTING if found else JobState.QUEUED, reason, slots)
    pending = [copy for copy in found.values() if not copy.ended and copy.task.get("State") != "running"]
    master = found.get(-1)
    if master is not None and master in pending and master.restarts:
        return JobStatus(JobState.RUNNING, f"the job master is being started again: it {master.ending()}", slots)
    if pending and began:
        return JobStatus(JobState.RUNNING, "", slots, pending=_starting(pending))
    if pending:
        return JobStatus(JobState.STARTING, _starting(pending), slots)
    bad = {slot: text for slot, text in slots.items() if not found[slot].well}
    return JobStatus(JobState.RUNNING, culprits(bad), slots)


def _stopped(job: Mapping[str, Any], found: Mapping[int, Copy], slots: Mapping[int, str]) -> JobStatus:
    """A job that was stopped: after its end, or by a kill."""
    running = [copy for copy in found.values() if not copy.ended]
    if running:
        return JobStatus(JobState.RUNNING, f"is being stopped: {len(running)} copies still run", slots)
    master = found.get(-1)
    if found and all(copy.alloc.get("DesiredStatus") == "run" for copy in found.values()):
        if master is not None:
            return _by_master(master, slots)
        bad = {slot: text for slot, text in slots.items() if not found[slot].well}
        return JobStatus(JobState.FAILED if bad else JobState.COMPLETED, culprits(bad), slots)
    return JobStatus(JobState.KILLED, "was stopped in Nomad", slots)


def _by_master(master: Copy, slots: Mapping[int, str]) -> JobStatus:
    if master.well:
        return JobStatus(JobState.COMPLETED, "", slots)
    times = f"; Nomad had started it again {master.restarts} times" if master.restarts else ""
    return JobStatus(JobState.FAILED, f"the job master {master.ending()}{times}", slots)


def culprits(slots: Mapping[int, str]) -> str:
    """Who did not end well: the first few of them."""
    if not slots:
        return ""
    more = f" and {len(slots) - SHOWN} more" if len(slots) > SHOWN else ""
    return ", ".join(f"slot {slot} {text}" for slot, text in list(slots.items())[:SHOWN]) + more


def _starting(pending: Sequence[Copy]) -> str:
    """What the first copy that does not run waits for."""
    texts = [event.get("DisplayMessage", "") for copy in pending for event in copy.events[-1:]]
    said = next((text for text in texts if text), "")
    return f"{len(pending)} of the copies are being started" + (f" ({said})" if said else "")


def waiting(evals: Sequence[Mapping[str, Any]], placed: int, wanted: int) -> str:
    """Why copies are not placed, in plain words."""
    last = held(evals)
    if last is None:
        return f"{wanted - placed} of {wanted} copies are not placed yet"
    failed = last.get("FailedTGAllocs") or {}
    if not failed:
        return "waits for Nomad's scheduler"
    return f"{wanted - placed} of {wanted} copies have no node: " + "; ".join(
        f"group '{name}': {unplaced(metric)}" for name, metric in sorted(failed.items())
    )


def held(evals: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The latest of Nomad's evaluations that says why copies are not placed; None when none does."""
    last = sorted(evals, key=lambda each: int(each["ModifyIndex"]))
    return next((it for it in reversed(last) if it.get("FailedTGAllocs") or it.get("Status") == "pending"), None)


def unplaced(metric: Mapping[str, Any]) -> str:
    """Nomad's figures of a placement that failed, as a sentence."""
    evaluated = int(metric.get("NodesEvaluated") or 0)
    available = metric.get("NodesAvailable") or {}
    if not evaluated and not sum(available.values()):
        centers = ", ".join(f"'{name}'" for name in available)
        return f"no ready node in {f'datacenter {centers}' if centers else 'the chosen datacenters and pool of nodes'}"
    parts = []
    for text, count in sorted((metric.get("ConstraintFiltered") or {}).items()):
        parts.append(f"{count} of {evaluated} nodes lack {_constraint(text)}")
    for text, count in sorted((metric.get("ClassFiltered") or {}).items()):
        parts.append(f"{count} nodes of class '{text}' do not fit")
    for text, count in sorted((metric.get("DimensionExhausted") or {}).items()):
        parts.append(f"{count} of {evaluated} nodes have too little {DIMENSIONS.get(text, text)} left")
    for text in metric.get("QuotaExhausted") or ():
        parts.append(f"the quota is used up ({text})")
    return ", ".join(dict.fromkeys(parts)) or f"none of {evaluated} nodes fits"


def _constraint(text: str) -> str:
    if text.startswith("missing drivers"):
        return "the driver (rm.nomad.driver)"
    if text.startswith("missing devices"):
        return "the devices (job.gpus)"
    return f"what is asked for ({text})"
