"""What a job's folder keeps, and what becomes of what cannot be written."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from twister2.control.limitedlog import LimitedLog
from twister2.master.journal import Journal


def test_what_cannot_be_written_is_told_once_and_kept_in_the_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(log: LimitedLog, data: bytes) -> None:
        raise OSError(errno.EFBIG, "File too large")

    monkeypatch.setattr(LimitedLog, "write", full)
    told: list[str] = []
    journal = Journal(tmp_path)
    journal.troubled = told.append
    for worker in range(3):
        journal.output(worker, "text\n")
    journal.event("state")
    journal.state(state="completed")
    journal.close()
    assert len(told) == 1
    assert "ulimit -f" in told[0]
    assert json.loads((tmp_path / "state.json").read_text()) == {"state": "completed", "incomplete": told[0]}


def test_events_are_found_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert not journal.has("job_ended")
    journal.event("job_ended", state="killed")
    for _ in range(5):
        journal.event("other", text='"event": job_started')
    assert journal.has("job_ended")
    assert not journal.has("job_started")
    journal.close()
