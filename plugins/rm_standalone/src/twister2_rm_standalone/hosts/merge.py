"""One status from those of all hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.spec.rm import JobHandle, JobState, JobStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twister2.spec.errors import Twister2Error

SHOWN = 3
GOOD = ("running", "exited 0")


def merged(handle: JobHandle, replies: Mapping[str, Any], errors: Mapping[str, Twister2Error]) -> JobStatus:
    """What the hosts say together; of a slot that moved, the host that started it last counts."""
    known = {host: reply for host, reply in replies.items() if reply["known"]}
    unseen = [error.what for error in errors.values()]
    if not known:
        return JobStatus(JobState.UNKNOWN, "; ".join(unseen) or "the hosts know no such job (any more)")
    # how copies ended of which a smaller job has no more says nothing of the job
    known = {host: reply for host, reply in known.items() if reply["attempts"]}
    slots = _slots(known)
    bad = {slot: text for slot, text in slots.items() if text not in GOOD}
    listed = ", ".join(f"slot {slot} {text}" for slot, text in [*bad.items()][:SHOWN])
    listed += f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
    here = {JobState(reply["state"]) for reply in known.values()}
    running = sum(text == "running" for text in slots.values())
    if JobState.STARTING in here and here <= {JobState.STARTING, JobState.RUNNING}:
        return JobStatus(JobState.STARTING, "; ".join(["the workers are being started", *unseen]), slots)
    if running or JobState.STARTING in here or (unseen and here == {JobState.RUNNING}):
        wanted = len({slot for reply in known.values() for slot in reply["attempts"]})
        # of hosts that are not seen the job's first size tells
        wanted = max(wanted, int(handle.facts["n_workers"])) if unseen else wanted
        reason = f"{running} of {wanted} workers run" if running < wanted else ""
        return JobStatus(JobState.RUNNING, "; ".join(filter(None, [reason, listed, *unseen])), slots)
    for state in (JobState.KILLED, JobState.FAILED, JobState.UNKNOWN):
        if state in here:
            said = {host: reply["reason"] for host, reply in known.items() if reply["state"] == state.value}
            reason = listed if state is JobState.FAILED else ""
            reason = reason or "; ".join(f"{host}: {text}" for host, text in said.items() if text)
            return JobStatus(state, "; ".join(filter(None, [reason, *unseen])), slots)
    # what is seen has ended well, and of the others nobody knows
    return JobStatus(JobState.RUNNING if unseen else JobState.COMPLETED, "; ".join(unseen), slots)


def _slots(known: Mapping[str, Any]) -> dict[int, str]:
    latest: dict[int, tuple[int, str]] = {}
    for host, reply in known.items():
        for text, attempt in reply["attempts"].items():
            if attempt >= latest.get(int(text), (0, ""))[0]:
                latest[int(text)] = (attempt, host)
    slots = {}
    for slot, (_, host) in sorted(latest.items()):
        text = known[host]["slots"].get(str(slot))
        if text is not None:
            slots[slot] = text if text in GOOD else f"{text} on {host}"
    return slots
