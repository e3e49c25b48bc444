"""A master that slept looks whether another shell has ended its job; what it wrote itself counts for nothing there."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from twister2.master.journal import Journal
from twister2.master.process import MasterProcess
from twister2.spec.errors import ResourceError, Twister2Error
from twister2.spec.rm import JobState

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


def test_a_master_that_is_told_to_end_hears_that_before_what_its_workers_say(tmp_path: Path) -> None:
    """They were told together: that the job is being killed is the reason, not that workers go."""
    said: list[str] = []

    def drain() -> bool:
        said.append("workers")
        return False

    nothing = SimpleNamespace(deliver=lambda: None, look=lambda: None)
    master: Any = SimpleNamespace(
        job=SimpleNamespace(kill=lambda why: said.append(why.partition(":")[0]), tick=lambda: None),
        _signalled=True,
        _is_started_again=lambda: False,
        _lives=True,
        _drain=drain,
        _turned=time.monotonic(),
        _calls=nothing,
        _state_calls=nothing,
        _walltime=nothing,
        _ask_state=lambda: None,
    )
    MasterProcess._turn(master)
    assert said == ["the job master was told to end (SIGTERM)", "workers"]
