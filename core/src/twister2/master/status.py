"""What ``twister2 status`` shows of a running job, as plain data."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twister2.master.job import Job
    from twister2.master.slots import Slot


def job_status(job: Job) -> dict[str, Any]:
    """The job with all its workers."""
    return {
        "state": job.state.value,
        "reason": job.reason,
        "attempt": job.attempt,
        "seconds": round(time.monotonic() - job.begun, 3),
        "checkpoint": job.checkpoints.latest,
        "workers": [worker_status(slot) for slot in job.slots],
    }


def worker_status(slot: Slot) -> dict[str, Any]:
    """One worker: what it does, what it waits for, how long it has been silent."""
    return {
        "worker": slot.number,
        "phase": slot.phase,
        "host": slot.facts.get("node", {}).get("host", ""),
        "step": list(slot.current() or ()),
        "waits_for": slot.waits_for,
        "memory": slot.memory,
        "silent_s": round(time.monotonic() - slot.heard, 1) if slot.heard else None,
    }
