"""Joining an attempt: who is let in, and what the copies are told when they join and when the attempt starts."""

from __future__ import annotations

import json
import secrets
import time
from typing import TYPE_CHECKING, Any

from twister2.control.package import digest
from twister2.control.ticket import same_secret
from twister2.spec.rm import JobState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twister2.config import JobConfig
    from twister2.control.messages import Message
    from twister2.master.facts import JobFacts
    from twister2.master.job import Job
    from twister2.master.slots import Slot

INLINE_PACKAGE = 1 << 20
"""Packages up to this size, in bytes, travel in the welcome."""


def hello(job: Job, peer: bytes, message: Message) -> None:
    """A copy says who it is, and is let in, or told why not; as long as there is no package it waits."""
    over = job.finished or job.state.final
    if not job.package and not over:
        job.before_package.append((peer, message))
        job.returning.wants_package()
        return
    body = message.body
    number = body.get("slot")
    pending = job.scaling.pending.get(number) if isinstance(number, int) else None
    slot = pending or next((slot for slot in job.slots if slot.place == number), None)
    why, wait = refusal(body, slot, job.attempt, job.join_key, over, len(job.slots))
    if slot is None or why:
        job.journal.event("join_refused", slot=number, why=why)
        job.post(peer, "refused", {"text": why, "wait": wait})
        return
    slot.reset()
    job.forget(slot)
    job.by_peer[peer] = slot
    slot.peer, slot.heard, slot.key = peer, time.monotonic(), body["key"]
    slot.phase, slot.facts = "joined" if pending is None else "standby", dict(body)
    if pending is not None:
        welcome(job, slot, "welcome")
        job.scaling.stands_by(slot)
        return
    job.journal.event("worker_joined", worker=slot.number, attempt=job.attempt, host=body["node"]["host"])
    if job.state is JobState.QUEUED:  # the time of a job is that since it has left the queue, on every manager
        job.begun, job.returning.begun = time.monotonic(), time.time()
        job.set_state(JobState.STARTING, job.waiting.joining())
    job.tell_of(slot, "joined")
    welcome(job, slot, "welcome")
    job.start_if_complete()


def refusal(
    body: Mapping[str, Any], slot: Slot | None, attempt: int, join_key: str, over: bool, n_workers: int
) -> tuple[str, bool]:
    """Why a copy is not let in (empty: it is), and whether it should wait for the next attempt.

    :param slot: the one that it says it has, if there is such a one.
    """
    number = body.get("slot")
    if over:
        return "the job is over", False
    if slot is None:
        return f"there is no slot {number}; the job has {n_workers}", False
    if slot.phase in ("joined", "ended", "standby") and not slot.gone:
        return f"slot {number} is already filled", False
    if body.get("attempt") != attempt or not same_secret(body.get("join_key"), join_key):
        return f"the join key is not that of attempt {attempt}", True
    if slot.phase == "lost":
        return f"slot {number} is lost in attempt {attempt}; wait for the next one", True
    return "", False


def welcome(job: Job, slot: Slot, kind: str) -> None:
    """Let a copy in (``welcome``), or into the next attempt (``next``)."""
    facts, package = job.facts, job.package
    config: JobConfig = facts.config
    body = {
        "job_id": facts.job_id,
        "worker_id": slot.number,
        "n_workers": len(job.slots),
        "standby": slot.phase == "standby",
        "attempt": job.attempt,
        "master": job.returning.master,
        "package": digest(package),
        "package_size": len(package),
        "pmi": facts.serve_pmi,
        "segments": facts.segments,
        "cpus": slot.resources.cpus,
        "heartbeat_s": config.heartbeat_s,
        "master_lost_s": config.master_return_s if facts.returns else config.master_lost_s,
    }
    job.post(slot.peer, kind, body, [package] if len(package) <= INLINE_PACKAGE else [])


def start(facts: JobFacts, slots: Sequence[Slot], attempt: int, checkpoint: int) -> bytes:
    """What every worker is told when all have joined (:class:`twister2.worker.environment.Start`), as JSON: it is long
    where workers are many, the same for all, and read by their programs' processes only.
    """
    nodes, workers = _workers(slots)
    told = {
        "job_id": facts.job_id,
        "job_name": facts.name,
        "attempt": attempt,
        "nodes": nodes,
        "workers": workers,
        "session": secrets.token_hex(8),
        "keys": {str(slot.number): slot.key for slot in slots},
        "checkpoint": checkpoint,
        "state_root": facts.state_root,
        "state_shared": facts.state_shared,
    }
    return json.dumps(told, separators=(",", ":")).encode()


def _workers(slots: Sequence[Slot]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The different nodes, and the workers, which have numbers of them."""
    per_host: dict[str, int] = {}
    for slot in slots:
        per_host[slot.facts["node"]["host"]] = per_host.get(slot.facts["node"]["host"], 0) + 1
    nodes: list[dict[str, Any]] = []
    workers = []
    for slot in slots:
        node, group = slot.facts["node"], slot.resources
        share = slot.facts["memory_available_mb"] // per_host[node["host"]]
        if node not in nodes[-1:]:  # neighbours lie on one
            nodes.append(node)
        workers.append(
            {
                "worker_id": slot.number,
                "slot": slot.place,
                "node": len(nodes) - 1,
                "group": group.name,
                "cpus": group.cpus,
                "memory_mb": group.memory_mb or share,
                "gpus": group.gpus,
            }
        )
    return nodes, workers
