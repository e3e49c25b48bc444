"""Joining an attempt: who is let in, and what the copies are told when they join and when the attempt starts."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from twister2.control.package import digest
from twister2.control.ticket import same_secret

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twister2.config import JobConfig
    from twister2.master.facts import JobFacts
    from twister2.master.slots import Slot
    from twister2.spec.rm import ResourceGroup

INLINE_PACKAGE = 1 << 20
"""Packages up to this size, in bytes, travel in the welcome."""


def refusal(
    body: Mapping[str, Any], slots: Sequence[Slot], attempt: int, join_key: str, over: bool
) -> tuple[str, bool]:
    """Why a copy is not let in (empty: it is), and whether it should wait for the next attempt."""
    number = body.get("slot")
    if over:
        return "the job is over", False
    if not isinstance(number, int) or not 0 <= number < len(slots):
        return f"there is no slot {number}; the job has {len(slots)}", False
    slot = slots[number]
    if slot.phase in ("joined", "ended") and not slot.gone:
        return f"slot {number} is already filled", False
    if body.get("attempt") != attempt or not same_secret(body.get("join_key"), join_key):
        return f"the join key is not that of attempt {attempt}", True
    if slot.phase == "lost":
        return f"slot {number} is lost in attempt {attempt}; wait for the next one", True
    return "", False


def group_of(facts: JobFacts, slot: int) -> ResourceGroup:
    """The resource group a slot belongs to."""
    return [group for group in facts.groups for _ in range(group.count)][slot]


def welcome(facts: JobFacts, slot: Slot, attempt: int, package: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """Body and attachments of the message that lets a copy in."""
    config: JobConfig = facts.config
    body = {
        "job_id": facts.job_id,
        "worker_id": slot.number,
        "n_workers": facts.n_workers,
        "attempt": attempt,
        "package": digest(package),
        "package_size": len(package),
        "pmi": facts.serve_pmi,
        "segments": facts.segments,
        "cpus": group_of(facts, slot.number).cpus,
        "heartbeat_s": config.heartbeat_s,
        "master_lost_s": config.master_lost_s,
    }
    return body, [package] if len(package) <= INLINE_PACKAGE else []


def start(facts: JobFacts, slots: Sequence[Slot], attempt: int, checkpoint: int) -> dict[str, Any]:
    """What every worker is told when all have joined (:class:`twister2.worker.environment.Start`)."""
    return {
        "job_id": facts.job_id,
        "job_name": facts.name,
        "attempt": attempt,
        "workers": _workers(facts, slots),
        "session": secrets.token_hex(8),
        "keys": {str(slot.number): slot.key for slot in slots},
        "checkpoint": checkpoint,
        "state_root": facts.state_root,
        "state_shared": facts.state_shared,
    }


def _workers(facts: JobFacts, slots: Sequence[Slot]) -> list[dict[str, Any]]:
    per_host: dict[str, int] = {}
    for slot in slots:
        per_host[slot.facts["node"]["host"]] = per_host.get(slot.facts["node"]["host"], 0) + 1
    workers = []
    for slot in slots:
        node, group = slot.facts["node"], group_of(facts, slot.number)
        share = slot.facts["memory_available_mb"] // per_host[node["host"]]
        workers.append(
            {
                "worker_id": slot.number,
                "slot": slot.number,
                "node": node,
                "group": group.name,
                "cpus": group.cpus,
                "memory_mb": group.memory_mb or share,
                "gpus": group.gpus,
            }
        )
    return workers
