"""What the submitting client does where a job does not go as it should: nothing hangs, nothing is left out."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from twister2.client import session as sessions
from twister2.client.records import RECORD, SUBMITTING, _is_left
from twister2.client.session import CTRL_C, Session
from twister2.control.messages import Message
from twister2.master.journal import Journal
from twister2.spec.errors import DeadlineError, JobFailedError, JobKilledError, MasterLostError, Twister2Error
from twister2.spec.rm import JobState


class FakeMaster:
    """A master that takes what it is sent, and answers as it is told."""

    def __init__(self, *answers: Message) -> None:
        self.answers, self.did = list(answers), list[Any]()

    def dial(self, queued: object) -> FakeMaster:
        return self

    def lost(self) -> None:
        return None

    def stop(self, *, now: bool, why: str = "") -> None:
        self.did.append(("stop", now))
        raise OSError("it cannot be stopped")

    def send(self, kind: str, body: dict[str, Any], blobs: object = ()) -> None:
        self.did.append(kind)

    def receive(self, timeout_s: float) -> Message | None:
        if self.answers:
            return self.answers.pop(0)
        time.sleep(0.01)
        return None

    def close(self, linger_s: float = 0.0) -> None:
        self.did.append(("close", linger_s))


class Observers:
    def call(self, *_: object, **__: object) -> None:
        """Hears nothing."""

    def close(self) -> None:
        """Nothing is held."""


def session(folder: Path, master: FakeMaster, did: list[str]) -> Session:
    class Backend:
        offers = SimpleNamespace(shared_files=frozenset(), in_process=False, restarts_master=False)

        def kill(self, handle: object, grace_s: float) -> None:
            did.append("kill")

        def clean(self, handle: object) -> None:
            raise RuntimeError("a bug of a plugin")

        def close(self) -> None:
            did.append("close")

    runtime = folder / "runtime"
    prepared = SimpleNamespace(
        allocation=SimpleNamespace(job_id="job-1"),
        match=SimpleNamespace(master="allocation"),
        master_ticket=SimpleNamespace(has_package=False, packed="", runtime_dir=str(runtime), segments=()),
        backend=Backend(),
        detached=True,
        package=b"package",
        folder=folder / "job",
    )
    for path in (runtime, prepared.folder):
        path.mkdir()
    made = Session(prepared, lambda *_: None, Observers())  # type: ignore[arg-type]
    made._master, made._handle = master, object()  # type: ignore[assignment]
    return made


def test_the_last_word_to_a_master_that_goes_on_is_waited_for(tmp_path: Path) -> None:
    master = FakeMaster(Message("attached", {"wants_package": True}), Message("pushed", {}))
    made = session(tmp_path, master, [])
    made._hand_over(master)  # type: ignore[arg-type]
    assert master.did[:2] == ["push", "detach"]
    assert master.did[2][1] > 0


def test_a_master_that_has_the_package_when_the_client_comes_again_needs_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its word that it has taken it went with the connection."""
    master = FakeMaster(*(Message("attached", {"wants_package": wants}) for wants in (True, False)))
    made = session(tmp_path, master, [])
    monkeypatch.setattr(sessions, "PUSH_S", 1.0)
    made._hand_over(master)  # type: ignore[arg-type]
    assert master.did[:2] == ["push", "detach"]


@pytest.mark.parametrize(("again", "packed", "warned"), [(True, "", True), (True, "x", False), (False, "", False)])
def test_who_leaves_a_package_with_workers_alone_hears_what_that_means(
    tmp_path: Path, again: bool, packed: str, warned: bool
) -> None:
    """Of no interest where no other master comes, or where it has the package by its ticket."""
    master = FakeMaster(Message("attached", {"wants_package": not packed}), Message("pushed", {}))
    made, said = session(tmp_path, master, []), []
    made._output = lambda *words: said.append(words[-1])
    made._prepared.backend.offers.restarts_master = again
    made._prepared.master_ticket.packed = packed
    made._prepared.job = SimpleNamespace(rm="k8s", master_return_s=30.0)
    made._hand_over(master)  # type: ignore[arg-type]
    assert ["raise job.master_return_s (30 s)" in text for text in said] == [True] * warned


def test_a_master_that_never_takes_the_package_is_given_up_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step of tidying is done, though the master cannot be stopped and the manager fails."""
    monkeypatch.setattr(sessions, "PUSH_S", 0.2, raising=False)
    did: list[str] = []
    master = FakeMaster(Message("attached", {"wants_package": True}))
    with pytest.raises(DeadlineError, match="did not take the package"):
        session(tmp_path, master, did).leave()
    assert did == ["kill", "close"]
    assert ("stop", True) in master.did
    assert not list(tmp_path.iterdir())


def test_ctrl_c_before_a_job_is_left_ends_it(tmp_path: Path) -> None:
    """It came while the manager was asked, of a job whose package needs no handing over."""
    did: list[str] = []
    made = session(tmp_path, FakeMaster(), did)
    made._prepared.master_ticket.has_package = True
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        made._interrupts.begin()
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            made.leave()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert did == ["kill", "close"]


GONE = MasterLostError("the job master ended before the job did", why="signal SIGKILL", remedy="submit it again")
KILLED = JobKilledError("the job was killed", why="Ctrl-C", remedy="submit it again")


def following(folder: Path, master: FakeMaster, monkeypatch: pytest.MonkeyPatch) -> tuple[Session, Path]:
    """A session whose master is in the client, and the job's state file."""
    made = session(folder, master, [])
    made._prepared.manifest = SimpleNamespace(want_results=False)
    made._prepared.job = SimpleNamespace(log_limit_mb=1)
    made._connection = master
    monkeypatch.setattr(made, "_finish", lambda outcome: made._own_journal().close())
    monkeypatch.setattr(made, "_tidy", lambda: True)
    return made, made._prepared.folder / "state.json"


@pytest.mark.parametrize("error", [GONE, KILLED], ids=["lost", "killed"])
def test_an_end_that_was_written_down_before_is_the_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Twister2Error
) -> None:
    made, state = following(tmp_path, FakeMaster(), monkeypatch)
    made._master = None
    state.write_text(json.dumps({"state": "completed", "reason": "", "error": None}))
    outcome = made._end_without_master(error)
    made._own_journal().close()
    assert (outcome.state, outcome.error) == (JobState.COMPLETED, None)
    written = json.loads(state.read_text())
    assert (written["state"], written["tidied"]) == ("completed", True)


@pytest.mark.parametrize("ends", ["stop", "_tidy"])
def test_what_this_client_ends_by_force_does_not_say_how_the_job_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    """A master that is told to end, by its client or by the manager, writes down that the job was killed. It was ended
    because of what the client knew before.
    """
    made, state = following(tmp_path, FakeMaster(), monkeypatch)

    def ends_the_master(*_: object, **__: object) -> bool:
        master = Journal(state.parent)
        master.end(JobState.KILLED, JobKilledError("the job was killed", why="SIGTERM", remedy="submit it again"))
        master.close()
        return True

    monkeypatch.setattr(made._master if ends == "stop" else made, ends, ends_the_master)
    if ends == "_tidy":
        monkeypatch.setattr(made._master, "stop", lambda **_: None)
    made._last_words(JobFailedError("the job ended: srun refused it", why="--mpi", remedy="name another"))
    made._own_journal().close()
    assert made._outcome is not None
    assert (made._outcome.state, str(made._outcome.error)[:40]) == (
        JobState.FAILED,
        "[T2-J400] the job ended: srun refused it",
    )
    assert json.loads(state.read_text())["error"]["why"] == "--mpi"
    events = [json.loads(line) for line in (state.parent / "events.jsonl").read_text().splitlines()]
    assert [(event["event"], event["state"]) for event in events] == [("job_ended", "failed")]


def test_a_kill_that_is_going_on_is_why_the_master_has_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another shell kills the job; that its master ends by a signal is seen before the shell has written the end."""
    made, state = following(tmp_path, FakeMaster(), monkeypatch)
    made._master = None
    shell = Journal(state.parent)
    shell.killing(KILLED)
    shell.close()
    outcome = made._end_without_master(GONE)
    made._own_journal().close()
    assert (outcome.state, outcome.error.why if outcome.error else "") == (JobState.KILLED, "Ctrl-C")


def test_what_fails_after_ctrl_c_is_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The master is lost before it has said that it has killed the job."""
    master = FakeMaster()
    made, state = following(tmp_path, master, monkeypatch)
    monkeypatch.setattr(master, "stop", lambda **_: None)
    monkeypatch.setattr(master, "lost", lambda: GONE if "kill" in master.did else None)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        made._interrupts.begin()
        os.kill(os.getpid(), signal.SIGINT)
        outcome = made.follow()
    finally:
        signal.signal(signal.SIGINT, before)
    assert (outcome.state, outcome.error.why if outcome.error else "") == (JobState.KILLED, CTRL_C)
    assert json.loads(state.read_text())["state"] == "killed"


def test_a_folder_whose_record_has_just_been_made_is_not_left(tmp_path: Path) -> None:
    """It is looked for twice: the client writes it between, and takes away what it had said until then."""
    (tmp_path / RECORD).write_text("{}")
    os.utime(tmp_path, (0, 0))
    assert not (tmp_path / SUBMITTING).exists()
    assert not _is_left(tmp_path)
    (tmp_path / RECORD).unlink()
    os.utime(tmp_path, (0, 0))
    assert _is_left(tmp_path)


def test_results_that_went_with_an_earlier_life_of_the_master_are_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _ = following(tmp_path, FakeMaster(), monkeypatch)
    ended = {"state": "completed", "error": None, "seconds": 1.0, "attempts": 1, "workers": [], "incomplete": ""}
    made._take(Message("ended", ended))
    assert made._outcome is not None
    assert made._outcome.state is JobState.COMPLETED
    made._prepared.manifest = SimpleNamespace(want_results=True)
    made._take(Message("ended", ended))
    assert made._outcome.state is JobState.FAILED
    assert "did not arrive" in str(made._outcome.error)
