"""What a job's folder keeps, and what becomes of what cannot be written."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from twister2.control.limitedlog import LimitedLog
from twister2.master.journal import Journal
from twister2.spec.errors import JobKilledError, MasterLostError, Twister2Error
from twister2.spec.rm import JobState


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
    facts = json.loads((tmp_path / "state.json").read_text())
    assert facts.pop("ended") > 0, "whoever tells of the end: clean goes by it"
    assert facts == {"state": "completed", "incomplete": told[0]}


def test_events_are_found_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert not journal.has("job_ended")
    journal.event("job_ended", state="killed")
    for _ in range(5):
        journal.event("other", text='"event": job_started')
    assert journal.has("job_ended")
    assert not journal.has("job_started")
    journal.close()


LOST = MasterLostError("the job master has gone", why="nobody knows", remedy="submit it again")
KILLED = JobKilledError("the job was killed", why="twister2 kill", remedy="submit it again")


def ended(journal: Journal, state: JobState, error: Twister2Error | None) -> tuple[str, str]:
    state, error = journal.end(state, error)
    return state.value, error.why if error else ""


def written(folder: Path) -> dict[str, object]:
    facts: dict[str, object] = json.loads((folder / "state.json").read_text())
    return facts


def test_the_first_end_that_is_written_down_counts(tmp_path: Path) -> None:
    first, second = Journal(tmp_path), Journal(tmp_path)
    first.state(state="running", attempt=3)
    assert ended(second, JobState.FAILED, LOST) == ("failed", "nobody knows")
    assert ended(first, JobState.COMPLETED, None) == ("failed", "nobody knows")
    assert ended(second, JobState.KILLED, KILLED) == ("failed", "nobody knows")
    first.state(state="restarting")
    first.event("job_ended", state="completed")
    assert written(tmp_path)["state"] == "failed"
    second.say_ended("client", JobState.FAILED, LOST)
    first.amend(tidied=True)
    assert (written(tmp_path)["tidied"], written(tmp_path)["state"]) == (True, "failed")
    first.close()
    second.close()
    (event,) = (tmp_path / "events.jsonl").read_text().splitlines()
    assert json.loads(event)["state"] == "failed"


@pytest.mark.parametrize(
    ("own", "told"), [((JobState.FAILED, LOST), "killed"), ((JobState.COMPLETED, None), "completed")]
)
def test_what_fails_while_the_job_is_being_killed_is_the_kill(
    tmp_path: Path, own: tuple[JobState, Twister2Error | None], told: str
) -> None:
    master, shell = Journal(tmp_path), Journal(tmp_path)
    shell.killing(KILLED)
    master.state(state="restarting", attempt=2)
    assert ended(master, *own)[0] == told
    assert (written(tmp_path)["state"], written(tmp_path)["attempt"]) == (told, 2)
    assert "killing" not in written(tmp_path)
    master.close()
    shell.close()


def test_a_job_that_could_not_be_killed_fails_for_its_own_reasons(tmp_path: Path) -> None:
    master, shell = Journal(tmp_path), Journal(tmp_path)
    shell.killing(KILLED)
    shell.killing(None)
    assert ended(master, JobState.FAILED, LOST) == ("failed", "nobody knows")
    master.close()
    shell.close()
