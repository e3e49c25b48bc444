"""What ``twister2 status`` shows of a running job, as plain data."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from twister2.master.steps import not_in_step
from twister2.worker.board import OTHERS
from twister2.worker.groups import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2.master.job import Job
    from twister2.master.slots import Slot
    from twister2.master.steps import Groups


def job_status(job: Job) -> dict[str, Any]:
    """The job with all its workers."""
    return {
        "state": job.state.value,
        "reason": job.reason,
        "attempt": job.attempt,
        "seconds": round(time.monotonic() - job.begun, 3),
        "checkpoint": job.checkpoints.latest,
        "n_workers": len(job.slots),
        "change": job.scaling.change.to_dict() if job.scaling.change else None,
        "workers": [worker_status(slot, job.slots, job.groups) for slot in job.slots],
    }


def job_state(job: Job) -> dict[str, Any]:
    """What the state file has of the job."""
    facts: dict[str, Any] = {
        "state": job.state.value,
        "reason": job.reason,
        "attempt": job.attempt,
        "n_workers": len(job.slots),
        # whoever follows it may come too late to ask
        "change": job.scaling.change.to_dict() if job.scaling.change else None,
        "updated": time.time(),
    }
    if job.state.final:
        facts.update(ended=time.time(), error=job.error.to_dict() if job.error else None)
    return facts


def job_end(job: Job) -> dict[str, Any]:
    """How the job ended, for its clients."""
    return {
        "state": job.state.value,
        "error": job.error.to_dict() if job.error else None,
        "seconds": round(time.monotonic() - job.begun, 3),
        "attempts": job.attempt,
        "workers": sorted(job.results),
    }


def worker_status(slot: Slot, slots: Sequence[Slot], groups: Groups) -> dict[str, Any]:
    """One worker: what it does, what it waits for, how long it has been silent.

    ``group`` has the members of its step's group, by rank; none for the group of all. ``latest`` is the step that it
    noted last: number, kind, shape, line; empty when it has made no collective call yet. ``progress``: its reports.
    ``ways``: what lies in its ways to others, when it has waited long.

    :param slots, groups: of the job, whose boards tell for whom a worker waits.
    """
    step, latest = slot.current(), slot.latest()
    return {
        "worker": slot.number,
        "group_name": slot.group,
        "phase": slot.phase,
        "host": slot.facts.get("node", {}).get("host", ""),
        "step": list(step or ()),
        "group": list(groups.order(step[0])) if step else [],
        "latest": [latest.last, latest.kind, latest.shape, latest.line] if latest else [],
        "progress": slot.progress,
        "waits_for": _waits_for(slot, slots, groups),
        "ways": slot.ways,
        "memory": slot.memory,
        "silent_s": round(time.monotonic() - slot.heard, 1) if slot.heard else None,
    }


def _waits_for(slot: Slot, slots: Sequence[Slot], groups: Groups) -> str:
    """What a worker says that it waits for; who has not come yet where it cannot know itself."""
    begin, unknown, end = slot.waits_for.partition(OTHERS)
    if unknown:
        for note in slot.inside():
            missing = not_in_step(slots, groups, note) if begin.startswith(f"{note.kind}, step {note.last}:") else []
            if missing:
                return f"{begin}for worker{'s' * (len(missing) > 1)} {listed(missing)}{end}"
    return slot.waits_for
