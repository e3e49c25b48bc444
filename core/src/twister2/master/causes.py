"""Why an attempt ended, in words, and whether another one makes sense."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from twister2.spec.errors import (
    DeadlineError,
    JobFailedError,
    MasterLostError,
    StepAbortedError,
    StepMismatchError,
    Twister2Error,
    WorkerExitedError,
    WorkerLostError,
)
from twister2.worker.processes import describe_exit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2.master.slots import Slot
    from twister2.spec.rm import JobStatus

TOLD_TO_END = "the job master was told to end (SIGTERM): a time limit of its manager, or somebody there"


def exited(slot: Slot, code: int, memory_limit_mb: int | None = None) -> WorkerExitedError:
    """The error for a user process that ended without a word.

    :param memory_limit_mb: the kernel ended it for lack of memory: what its control group may have, 0: unknown.
    """
    tail = "\n".join(slot.tail)
    where = f"worker {slot.number}, host {slot.facts.get('node', {}).get('host', '?')}"
    details = {"worker": slot.number, "code": code, "tail": slot.tail}
    if memory_limit_mb is not None:
        asked = f"asked for {slot.resources.memory_mb:,} MiB" if slot.resources.memory_mb else "no limit is known"
        limit = f"limit {memory_limit_mb:,} MiB" if memory_limit_mb else asked
        return WorkerExitedError(
            f"worker {slot.number} was ended by the kernel: out of memory ({limit})",
            why="its process got SIGKILL, and the kernel has counted a process that it ended for lack of memory",
            remedy="give workers more memory (job.memory_mb), use more workers, or keep less per worker: another "
            "attempt, which needs as much, ends the same way",
            where=where,
            details={**details, "memory_limit_mb": memory_limit_mb},
        )
    return WorkerExitedError(
        f"worker {slot.number} ended by itself with {describe_exit(code)}",
        why="its process ended without returning from the program's function"
        + (f"; its last lines:\n{tail}" if tail else " and wrote nothing to stderr"),
        remedy="look for os._exit, a crash in native code, or too little memory",
        where=where,
        details=details,
    )


def lost(slot: Slot, why: str) -> WorkerLostError:
    """The error for a supervisor that is gone."""
    return WorkerLostError(
        f"worker {slot.number} was lost",
        why=why,
        remedy="the job is started again while attempts are left (job.attempts); "
        "see 'twister2 logs JOB --manager' and the host's own logs",
        where=f"host {slot.facts.get('node', {}).get('host', '?')}",
        details={"worker": slot.number},
    )


def copy_ended(text: str, *, leaves: bool = False) -> str:
    """How a copy has ended, or why it will never run: by the resource manager's words for its slot. Empty: it lives.

    :param leaves: it has said goodbye: why it is being ended counts, too, and may be forgotten when it has ended.
    """
    if text.startswith("lost"):
        return f"was {text}"
    if leaves and text.startswith("is being ended"):
        return text
    return text if text.startswith(("exited", "failed", "ended")) else ""


def told_where(cause: Twister2Error, standing: str) -> None:
    """Add to the end of a worker where it was, and what others are in."""
    if standing and isinstance(cause, (WorkerExitedError, WorkerLostError)):
        cause.why += ("\n" if "\n" in cause.why else "; ") + standing  # behind its last lines
        cause.details["standing"] = standing


def never_joined(slot: Slot, text: str) -> Twister2Error:
    """The error for a copy that ended before it joined; one that was killed from outside counts as lost.

    :param text: from :func:`copy_ended`, e.g. ``exited 137 (SIGKILL)``.
    """
    code = text.split()[1] if " " in text else ""
    if text.startswith("was lost") or code in (str(128 + signal.SIGKILL), str(128 + signal.SIGTERM)):
        return lost(slot, f"its supervisor {text} before it could join")
    return JobFailedError(
        f"worker {slot.number} ended before it could join",
        why=f"its supervisor {text}",
        remedy="see 'twister2 logs JOB --manager' for what it wrote; check Python and the packages on its host",
        details={"worker": slot.number},
    )


def retryable(cause: Twister2Error) -> bool:
    """A lost worker is retried, and so is one that was killed from outside; an error of the program never is."""
    if isinstance(cause, WorkerLostError):
        return True
    code = cause.details.get("code")
    return isinstance(cause, WorkerExitedError) and code in (-signal.SIGKILL, -signal.SIGTERM)


def explained(first: Twister2Error, later: Twister2Error) -> Twister2Error:
    """Why an attempt ended, of what was heard first and of what was heard when it was being ended: a worker that was
    lost, or killed from outside, explains what another one's program met before that was known. A library that does
    not survive the death of a peer (MPI) may crash then, or go on with wrong data.
    """
    if isinstance(first, MasterLostError):
        return first  # the workers ended by themselves: that the others have gone too is its consequence
    about = first.details.get("worker")
    if about in (None, later.details.get("worker")) or retryable(first) or not retryable(later):
        return first
    where = f" at {first.where}" if first.where else ""
    later.why = f"{later.why}; heard of before it, and taken for its consequence: {first.what}{where} ({first.why})"
    later.details.setdefault("traceback", first.details.get("traceback", ""))
    return later


def with_attempts(cause: Twister2Error, made: int, most: int) -> Twister2Error:
    """The cause of the last attempt's end; of one that is retried it says how many attempts there were."""
    if retryable(cause):
        tried = "1 attempt was" if made == 1 else f"{made} attempts were"
        cause.why = f"{cause.why}; {tried} made, the last ended so (job.attempts = {most})"
        cause.details["attempts"] = made
    return cause


def abort_for_others(cause: Twister2Error, by: int | None) -> Twister2Error:
    """What the other workers raise: the cause itself when it concerns all of them, else StepAbortedError."""
    if by is None or isinstance(cause, StepMismatchError):
        return cause
    standing = cause.details.get("standing")
    return StepAbortedError(
        f"the attempt was aborted because of worker {by}",
        why=f"{cause.what}; {standing}" if standing else cause.what,
        remedy="see the job's error; nothing is wrong with this worker",
        details={"worker": by, "cause": cause.code},
    )


def ended_before_joining(status: JobStatus) -> JobFailedError:
    """The error for an allocation that ended before all workers had joined."""
    return JobFailedError(
        "the job ended before its workers had joined",
        why=f"the resource manager says: {status.reason or status.state.value}",
        remedy="see 'twister2 logs JOB --manager' for what the workers wrote at their start",
    )


def given_up(why: str) -> JobFailedError:
    """The error for a job whose manager lets its master run no longer, and says why."""
    return JobFailedError(
        "the job master was ended: its resource manager has given up the job",
        why=why,
        remedy="see 'twister2 logs JOB --manager' for what it says of the job master",
    )


def queued_too_long(limit_s: float, waited_s: float, reason: str) -> DeadlineError:
    """The error for a job, or a part of its workers, that has not left its manager's queue in time.

    :param reason: what is known of that, if anything.
    """
    return DeadlineError(
        f"the job has waited in the queue for longer than {limit_s:g} s",
        why=f"it has waited for {waited_s:.0f} s, and job.queue_deadline_s is {limit_s:g}"
        + (f"; {reason}" if reason else ""),
        remedy="raise job.queue_deadline_s (0: it waits as long as it takes), or ask for what is free sooner",
    )


def not_joined(slots: Sequence[Slot], limit_s: float, reason: str) -> DeadlineError:
    """The error for workers that did not join in time.

    :param reason: what is known of them, if anything.
    """
    missing = [str(slot.number) for slot in slots if slot.phase == "absent"]
    return DeadlineError(
        f"not all workers joined within {limit_s:g} s",
        why=f"missing are: {', '.join(missing[:20])}{'...' if len(missing) > 20 else ''}"
        + (f"; {reason}" if reason else ""),
        remedy="see 'twister2 logs JOB --manager'; raise job.start_deadline_s for a slow cluster",
    )
