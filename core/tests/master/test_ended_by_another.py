"""A master that slept looks whether another shell has ended its job; what it wrote itself counts for nothing there."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from twister2.master.journal import STATE
from twister2.master.process import MasterProcess
from twister2.spec.errors import ResourceError
from twister2.spec.rm import JobState

WHY = ResourceError("the job has no master", why="it was gone", remedy="submit it again").to_dict()


def woken(folder: Path, own: JobState, written: JobState, error: dict[str, Any] | None) -> tuple[bool, Any, list[str]]:
    (folder / STATE).write_text(json.dumps({"state": written.value, "error": error}))
    ends: list[str] = []
    master: Any = SimpleNamespace(
        _folder=folder,
        _journal=SimpleNamespace(over=False),
        job=SimpleNamespace(
            state=own, kill=lambda why: ends.append(f"killed: {why}"), fail=lambda error: ends.append(error.what)
        ),
    )
    return MasterProcess._ended_by_another(master), master, ends


@pytest.mark.parametrize(("state", "error"), [(JobState.COMPLETED, None), (JobState.FAILED, WHY)])
def test_its_own_end(tmp_path: Path, state: JobState, error: dict[str, Any] | None) -> None:
    ended, master, ends = woken(tmp_path, state, state, error)
    assert (ended, master._journal.over, ends) == (False, False, [])


@pytest.mark.parametrize(
    ("state", "end"), [(JobState.FAILED, "the job has no master"), (JobState.KILLED, "killed: it was gone")]
)
def test_the_end_that_another_wrote(tmp_path: Path, state: JobState, end: str) -> None:
    ended, master, ends = woken(tmp_path, JobState.RUNNING, state, WHY)
    assert (ended, master._journal.over, ends) == (True, True, [end])


@pytest.mark.parametrize("state", [JobState.COMPLETED, JobState.RUNNING])
def test_what_is_no_end_of_another(tmp_path: Path, state: JobState) -> None:
    ended, master, ends = woken(tmp_path, JobState.RUNNING, state, None)
    assert (ended, master._journal.over, ends) == (False, False, [])
