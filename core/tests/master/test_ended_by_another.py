"""A master that slept looks whether another shell has ended its job; what it wrote itself counts for nothing there."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from twister2.master import managing
from twister2.master.journal import Journal
from twister2.master.managing import ManagerCalls
from twister2.master.process import MasterProcess
from twister2.spec.errors import ResourceError, SubmissionRefusedError, Twister2Error
from twister2.spec.rm import JobHandle, JobState, JobStatus

WHY = ResourceError("the job has no master", why="it was gone", remedy="submit it again")


def woken(folder: Path, own: JobState, written: JobState | None, error: Twister2Error | None) -> tuple[bool, list[str]]:
    journal = Journal(folder)
    if written is not None:
        journal.end(written, error)
    ends: list[str] = []
    master: Any = SimpleNamespace(_journal=journal, job=SimpleNamespace(state=own, kill=ends.append))
    ended = MasterProcess._ended_by_another(master)
    journal.close()
    return ended, ends


@pytest.mark.parametrize(("state", "error"), [(JobState.COMPLETED, None), (JobState.FAILED, WHY)])
def test_its_own_end(tmp_path: Path, state: JobState, error: Twister2Error | None) -> None:
    assert woken(tmp_path, state, state, error) == (False, [])


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.KILLED])
def test_the_end_that_another_wrote(tmp_path: Path, state: JobState) -> None:
    ended, ends = woken(tmp_path, JobState.RUNNING, state, WHY)
    assert (ended, len(ends)) == (True, 1)


@pytest.mark.parametrize("state", [JobState.RUNNING, None])
def test_what_is_no_end_of_another(tmp_path: Path, state: JobState | None) -> None:
    assert woken(tmp_path, JobState.RUNNING, state, None) == (False, [])


class Calls(ManagerCalls):
    """Of a master that asks for nothing else."""

    def ask_state(self) -> None:
        pass

    def note_state(self) -> None:
        pass


class Told(MasterProcess):
    """As much of a master as hears a signal."""

    def __init__(self, returns: bool | None, status: JobStatus) -> None:
        """
        :param returns: whether its manager starts it again, None when it never does. :param status: by its manager.
        """
        self.said: list[str] = []
        self.job: Any = SimpleNamespace(
            kill=lambda why: self.said.append(f"killed: {why.partition(': a ')[0]}"),
            fail=lambda error: self.said.append(f"failed: {error.why}"),
            tick=lambda: None,
        )
        offers = SimpleNamespace(restarts_master=returns is not None, same_host=False)
        backend: Any = SimpleNamespace(
            offers=offers,
            master_returns=lambda handle: returns,
            state=lambda handle: status,
            close=lambda: None,
        )
        ticket: Any = SimpleNamespace(in_client=False)
        self._manager = Calls(lambda: backend, ticket, self.job, self.job)
        self._manager.handle, self._manager.lives = JobHandle("rm", "job-1", "1"), True
        self._manager.told_to_end, self._turned = True, time.monotonic()
        self._state_calls = self._walltime = SimpleNamespace(deliver=lambda: None, look=lambda: None)  # type: ignore[assignment]

    def _drain(self) -> bool:
        self.said.append("workers")
        return False


KILLED = "killed: the job master was told to end (SIGTERM)"


@pytest.mark.parametrize(
    ("returns", "state", "why", "said"),
    [
        (None, JobState.FAILED, "no more restarts", [KILLED, "workers"]),
        (False, JobState.RUNNING, "", [KILLED, "workers"]),
        (False, JobState.RUNNING, "was cancelled", ["killed: the resource manager says: was cancelled", "workers"]),
        (False, JobState.FAILED, "no more restarts", ["failed: no more restarts", "workers"]),
        (True, JobState.FAILED, "no more restarts", []),
    ],
)
def test_a_master_that_is_told_to_end(returns: bool | None, state: JobState, why: str, said: list[str]) -> None:
    """It hears that before what its workers say, who were told together with it, and asks its manager why."""
    master = Told(returns, JobStatus(state, why))
    master._turn()
    master._manager.close()
    assert (master.said, master._manager.leaves) == (said, returns is True)


@pytest.mark.parametrize("hangs", [True, False])
def test_a_job_goes_on_whose_manager_does_not_say_why_its_master_is_to_end(
    monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    """Another call may hang meanwhile, and the question itself."""
    monkeypatch.setattr(managing, "TOLD_S", 0.1 if hangs else 60.0)
    monkeypatch.setattr(managing, "CLOSE_S", 0.1)
    answered = threading.Event()
    master = Told(True, JobStatus(JobState.RUNNING))
    calls = master._manager
    calls._calls.call(answered.wait, lambda *_: None)
    if hangs:
        calls._make().master_returns = lambda handle: answered.wait()  # type: ignore[method-assign]
    try:
        master._turn()
        assert (master.said, calls.leaves) == ([], True)
    finally:
        answered.set()
        calls.close()


@pytest.mark.parametrize(
    ("error", "ends"),
    [(SubmissionRefusedError("the token may not", why="no role", remedy="none"), True), (WHY, False)],
)
def test_a_master_that_may_not_read_its_notes_ends_with_that(error: ResourceError, ends: bool) -> None:
    """One whose manager is away asks again."""

    def refuses(handle: JobHandle) -> None:
        raise error

    master = Told(True, JobStatus(JobState.RUNNING))
    calls = master._manager
    master.job.event = lambda kind, **_: master.said.append(kind)
    calls._make().remembered = refuses  # type: ignore[assignment, method-assign]
    calls.told_to_end = False
    for _ in range(managing.REFUSALS):
        assert calls.refused is None
        calls.know(JobHandle("rm", "job-1", "1"))
        assert calls._calls.finish(lambda: None, 60.0) is None
    try:
        if ends:
            with pytest.raises(SubmissionRefusedError, match="the token may not"):
                master._turn()
        else:
            master._turn()
    finally:
        calls.close()
    assert master.said == [*["rm_error"] * managing.REFUSALS, "workers"]
