"""Changing a job that runs: another number of workers, or a new attempt."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from twister2.client.jobs import ANSWER_S, backend_of, master_of, status_of
from twister2.spec.errors import JobFailedError, MasterLostError, NetworkError, ResourceError, UsageError, from_dict
from twister2.spec.rm import JobState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twister2.client.records import JobSummary

POLL_S = 0.3
ASK_S = 15.0


def scale(job: JobSummary, targets: Mapping[str, int], *, now: bool, deadline_s: float) -> dict[str, Any]:
    """Ask for another number of workers by group; ``""`` is the only group that may change.

    :param now: go on from the latest commit as soon as the workers are there, instead of waiting for the next one.
    :param deadline_s: how long workers and commit may be waited for; the job goes on as it was when that is over.
    :returns: ``n_workers`` that it will have, and the change's ``number``, 0 when there is nothing to change.
    :raises Twister2Error: it is refused; says why.
    """
    return _asked(job, "scale", {"targets": dict(targets), "now": now, "deadline_s": deadline_s})


def restart(job: JobSummary, reason: str = "twister2 restart") -> dict[str, Any]:
    """Begin the program again with the same workers, from its latest commit.

    :returns: ``from`` (``"commit 3"`` or ``"the start"``) and the change's ``number``.
    :raises Twister2Error: it is refused; says why.
    """
    return _asked(job, "restart", {"reason": reason})


def _asked(job: JobSummary, kind: str, body: dict[str, Any]) -> dict[str, Any]:
    state = JobState(status_of(job).get("state", "queued"))
    if state.final:
        raise UsageError(
            f"job {job.record.job_id} has ended",
            why=f"it is {state.value}, and its checkpoints went with its end",
            remedy="submit it again",
        )
    backend = backend_of(job)
    try:
        with master_of(job, backend) as dialer:
            answer = dict(dialer.request(kind, body, ("changing",), ASK_S).body)
    except (MasterLostError, NetworkError) as error:
        raise ResourceError(
            f"the master of job {job.record.job_id} cannot be asked",
            why=error.what,
            remedy="try again; 'twister2 status' shows what is known of the job",
        ) from error
    finally:
        backend.close()
    if answer["error"] is not None:
        raise from_dict(answer["error"])
    return answer


def follow(job: JobSummary, number: int, told: Callable[[str], None]) -> dict[str, Any]:
    """Wait for a change; returns the job's status once the next attempt runs, or has completed the job.

    :param told: is given what is waited for, whenever that is something else.
    :raises Twister2Error: the change came to nothing, or the job ended.
    """
    said = ""
    backend = backend_of(job)
    try:
        with master_of(job, backend) as dialer:
            while not _over(job, status := dict(dialer.request("status", {}, ("status",), ANSWER_S).body), number):
                waits = status["change"]["waits_for"] or f"the next attempt ({status['state']})"
                if waits != said:
                    said = waits
                    told(waits)
                time.sleep(POLL_S)
            return status
    except (MasterLostError, NetworkError):
        facts = status_of(job)
        if JobState(facts["state"]).final and _over(job, facts, number):
            return facts
        raise
    finally:
        backend.close()


def _over(job: JobSummary, status: Mapping[str, Any], number: int) -> bool:
    """Whether the next attempt of a change runs, or has completed the job.

    :param status: from the job's master, or from its files when it has ended.
    :raises Twister2Error: the change came to nothing, or the job ended without it.
    """
    change, state = status.get("change"), JobState(status["state"])
    if change is not None:
        ours = change["number"] == number  # else somebody else's came after it
        if ours and change["error"] is not None:
            raise from_dict(change["error"])
        if (change["over"] or not ours) and state in (JobState.RUNNING, JobState.COMPLETED):
            return True
    if state.final:
        why = f"it is {state.value}{': ' + status['reason'] if status.get('reason') else ''}"
        raise JobFailedError(f"job {job.record.job_id} ended meanwhile", why=why, remedy="see 'twister2 status'")
    if change is None:
        raise MasterLostError(
            f"the master of job {job.record.job_id} knows nothing of this change any more",
            why="it was started again meanwhile, and the job goes on as it was",
            remedy="ask for the change again",
        )
    return False
