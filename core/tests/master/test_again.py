"""What an attempt cannot do without is asked for again while the resource manager is away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from twister2.master import again
from twister2.master.managing import ManagerCalls
from twister2.master.returning import Note
from twister2.spec.errors import ResourceError, SubmissionRefusedError
from twister2.spec.rm import JobHandle, JobState

AWAY = ResourceError("Nomad does not answer", why="refused", remedy="none")
REFUSED = SubmissionRefusedError("Nomad refused", why="quota", remedy="none")
ODD = ResourceError("the allocation has ended", why="a test", remedy="none")


class Manager:
    """Its server does what a function of the time says: nothing, or what is raised; ``started`` is when it worked."""

    def __init__(self, fails: Callable[[float], ResourceError | None]) -> None:
        self.now, self.started, self.heard = 1000.0, list[float](), list[str]()
        self.begun, self._fails = self.now, fails
        self.wanted = True

    def call(self) -> None:
        error = self._fails(self.now - self.begun)
        if error is not None:
            raise error
        self.started.append(self.now - self.begun)

    def state(self) -> None:
        if self._fails(self.now - self.begun) is AWAY:
            raise AWAY

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        assert self.now < self.begun + 1000, "it goes on for ever"

    def start(self, monkeypatch: pytest.MonkeyPatch, deadline_s: float = 120.0) -> None:
        clock = SimpleNamespace(monotonic=lambda: self.now, sleep=self.sleep)
        monkeypatch.setattr(again, "time", clock)
        told = lambda error: self.heard.append(error.what)  # noqa: E731 - one line
        again.try_again(self.call, self.state, lambda: self.wanted, told, deadline_s)


def test_it_is_done_once_the_manager_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = Manager(lambda at: AWAY if at < 60 else None)
    manager.start(monkeypatch)
    assert len(manager.started) == 1
    assert 60 <= manager.started[0] < 63
    assert manager.heard == [AWAY.what] * len(manager.heard)
    assert 25 <= len(manager.heard) <= 31


def test_nothing_is_heard_of_what_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = Manager(lambda at: None)
    manager.start(monkeypatch)
    assert (manager.started, manager.heard) == ([0.0], [])


def test_a_manager_that_stays_away_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = Manager(lambda at: AWAY)
    with pytest.raises(ResourceError) as caught:
        manager.start(monkeypatch, 20.0)
    assert caught.value is AWAY
    assert 17 < manager.now - manager.begun <= 20


def test_a_refusal_of_a_manager_that_answers_nothing_else_either_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have no leader for a while."""
    manager = Manager(lambda at: REFUSED if at < 10 else None)

    def state() -> None:
        if manager.now - manager.begun < 10:
            raise REFUSED

    monkeypatch.setattr(manager, "state", state)
    manager.start(monkeypatch)
    assert 10 <= manager.started[0] < 13


@pytest.mark.parametrize("error", [REFUSED, ODD])
def test_a_manager_that_is_there_is_asked_three_times(monkeypatch: pytest.MonkeyPatch, error: ResourceError) -> None:
    manager = Manager(lambda at: error)
    with pytest.raises(ResourceError) as caught:
        manager.start(monkeypatch)
    assert caught.value is error
    assert len(manager.heard) == again.TRIES - 1
    manager = Manager(lambda at: error if at < 3 else None)
    manager.start(monkeypatch)
    assert len(manager.started) == 1


def test_tries_before_it_was_away_count_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = Manager(lambda at: ODD if at < 3 or 20 < at < 23 else AWAY if at < 20 else None)
    manager.start(monkeypatch)
    assert len(manager.started) == 1


def test_what_nobody_wants_any_more_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = Manager(lambda at: AWAY)
    manager.wanted = False
    with pytest.raises(ResourceError):
        manager.start(monkeypatch)
    assert manager.now == manager.begun


class Asking(ManagerCalls):
    """The calls of a master that starts workers."""

    def __init__(self, backend: Any) -> None:
        self.events: list[str] = []
        self.failed: list[str] = []
        self.told: list[str] = []
        self.settings: Any = SimpleNamespace(kill_grace_s=0.0, start_deadline_s=120.0)
        self.ticket: Any = SimpleNamespace(world=None, in_client=True)
        journal: Any = SimpleNamespace(event=lambda kind, **_: self.events.append(kind))
        super().__init__(lambda: backend, self.ticket, self.settings, journal)
        self.handle = JobHandle("rm", "job-1", "1")
        self.job: Any = SimpleNamespace(
            attempt=2,
            state=JobState.RESTARTING,
            slots=[SimpleNamespace(place=place, phase="absent") for place in range(3)],
            fail=lambda error: self.failed.append(error.what),
            rm_troubled=self.told.append,
        )

    def finish(self) -> None:
        """Until all calls before have been made."""
        assert self._calls.finish(lambda: None, 60.0) is None


class Backend:
    """A manager that is away at the first calls; of what is asked for then one copy comes all the same."""

    def __init__(self, away: int, *, same_host: bool = False) -> None:
        self.offers = SimpleNamespace(same_host=same_host, restarts_master=True)
        self.away, self.asked, self.stopped = away, list[list[int]](), list[list[int]]()
        self.between: Callable[[], None] = lambda: None
        self.publish: Any = None
        self.remembered: Any = None
        self.remember: Any = None

    def state(self, handle: str) -> None:
        raise AWAY

    def stop_attempt(self, handle: str, slots: list[int], grace_s: float) -> None:
        self.stopped.append(slots)

    def start_attempt(self, handle: str, attempt: int, slots: list[int], world: str | None = None) -> None:
        self.asked.append(slots)
        if len(self.asked) <= self.away:
            self.between()
            raise AWAY


@pytest.fixture
def masters(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Backend], Asking]]:
    monkeypatch.setattr(again, "AGAIN_S", 0.02)
    monkeypatch.setattr(again, "LOOK_S", 0.01)
    made: list[Asking] = []

    def master(backend: Backend) -> Asking:
        made.append(Asking(backend))
        return made[-1]

    yield master
    for each in made:
        each.close()


def test_workers_are_started_when_the_server_is_back(masters: Any) -> None:
    backend = Backend(2)
    master = masters(backend)
    master.start_attempt(2, [0, 1, 2])
    master.finish()
    assert backend.asked == [[0, 1, 2]] * 3
    assert (master.failed, master.events, master._restarting) == ([], ["rm_error"] * 2, False)
    assert master.told == ["start workers: Nomad does not answer (refused); it is tried again"] * 2


def test_a_worker_that_a_failed_call_has_started_is_left_alone(masters: Any) -> None:
    backend = Backend(1)
    master = masters(backend)
    backend.between = lambda: setattr(master.job.slots[1], "phase", "joined")
    master.start_attempt(2, [0, 1, 2])
    master.finish()
    assert backend.asked == backend.stopped == [[0, 1, 2], [0, 2]]
    master.job.slots[0].phase = master.job.slots[2].phase = "joined"
    master.start_attempt(2, [0, 1, 2])
    master.finish()
    assert len(backend.asked) == 2


def test_a_world_that_a_failed_call_has_started_is_left_alone(masters: Any) -> None:
    backend = Backend(1)
    master = masters(backend)
    master.ticket.world = "pmi"
    backend.between = lambda: [setattr(slot, "phase", "joined") for slot in master.job.slots]
    master.start_attempt(2, [0, 1, 2])
    master.finish()
    assert backend.asked == backend.stopped == [[0, 1, 2]]


@pytest.mark.parametrize("what", ["publish", "start_attempt"])
def test_a_job_that_runs_has_all_workers_and_needs_no_call(masters: Any, what: str) -> None:
    """The server is away for longer than a start may take."""
    backend = Backend(1_000_000)
    master = masters(backend)
    master.settings.start_deadline_s = 0.1
    master.job.state = JobState.RUNNING
    backend.publish = lambda handle, ticket: backend.start_attempt(handle, 2, [])
    arguments: tuple[Any, ...] = (2, [0]) if what == "start_attempt" else (SimpleNamespace(encode=lambda: b""),)
    getattr(master, what)(*arguments)
    master.finish()
    assert (master.failed, master._restarting) == ([], False)
    assert master.events[-1] == "rm_error"
    master.job.state = JobState.RESTARTING
    getattr(master, what)(*arguments)
    master.finish()
    assert master.failed == [AWAY.what]


def test_workers_of_an_attempt_that_is_over_are_not_started(masters: Any) -> None:
    backend = Backend(0)
    master = masters(backend)
    for attempt, state in ((1, JobState.RESTARTING), (2, JobState.KILLED)):
        master.job.state = state
        master.start_attempt(attempt, [0])
        master.finish()
        assert (backend.asked, backend.stopped, master._restarting) == ([], [], False)


@pytest.mark.parametrize("how", ["killed", "next attempt", "told to end"])
def test_the_end_of_an_attempt_ends_its_tries(masters: Any, how: str) -> None:
    backend = Backend(1_000_000)
    master = masters(backend)
    ends = {
        "killed": lambda: setattr(master.job, "state", JobState.KILLED),
        "next attempt": lambda: setattr(master.job, "attempt", 3),
        "told to end": lambda: setattr(master, "told_to_end", True),
    }
    backend.between = lambda: len(backend.asked) == 2 and ends[how]()
    master.start_attempt(2, [0])
    master.finish()
    assert (len(backend.asked), master.failed, master._restarting) == (2, [], False)


def test_on_this_host_no_manager_is_away(masters: Any) -> None:
    backend = Backend(1, same_host=True)
    master = masters(backend)
    master.start_attempt(2, [0])
    master.finish()
    assert (len(backend.asked), master.failed) == (1, [AWAY.what])


def test_each_state_is_noted_once_where_nobody_else_can_see_it(masters: Any) -> None:
    backend, notes = Backend(0), list[str]()
    backend.remembered = lambda handle: None
    backend.remember = lambda handle, note, ended: notes.append(Note.decode(note).state)
    master = masters(backend)
    note = lambda: Note(1, 2, 1, 0.0, 0, [(0, 3, "w")], 3, None, master.job.state.value)  # noqa: E731
    master.job.returning = SimpleNamespace(note=note)
    master.ticket.shares_state, master.lives, master.returns = False, True, True
    for state in (JobState.QUEUED, JobState.STARTING, JobState.RUNNING, JobState.RUNNING, JobState.RESTARTING):
        master.job.state = state
        master.note_state()
        master.finish()
    assert notes == ["starting", "running", "restarting"]
    master.ticket.shares_state, master.job.state = True, JobState.RUNNING
    master.note_state()
    master.finish()
    assert len(notes) == 3
