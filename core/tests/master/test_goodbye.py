"""A job master whose job had ended before it began: clients that have not heard of the end find it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from twister2.control.ticket import Ticket
from twister2.master import process
from twister2.master.managing import ManagerCalls
from twister2.master.process import MasterProcess
from twister2.spec.errors import ResourceError
from twister2.spec.rm import JobHandle, JobState

HANDLE = JobHandle("rm", "job-1", "1")
TICKET = Ticket("job-1", 3, ("tcp://127.0.0.1:2",), "public", "key", 3)


class Manager:
    """Has the ticket of the life before, unless it cannot be reached."""

    def __init__(self, *, down: bool = False) -> None:
        self.ticket, self.down = b"before", down
        self.offers = SimpleNamespace(same_host=False, restarts_master=True)

    def remembered(self, handle: JobHandle) -> None:
        """No life that is later than this one has left a note."""

    def remember(self, handle: JobHandle, note: bytes, ended: object) -> None:
        """Nobody looks at it."""

    def publish(self, handle: JobHandle, ticket: bytes) -> None:
        if self.down:
            raise ResourceError("nobody answers", why="a test", remedy="none")
        self.ticket = ticket


class Life(MasterProcess):
    """As much of a master as its goodbye needs; a client comes when it can find it."""

    def __init__(self, manager: Manager, *, was_over: bool) -> None:
        self.events: list[str] = []
        return_s = 0.2 if manager.down else 50.0
        self._config: Any = SimpleNamespace(kill_grace_s=0.0, master_return_s=return_s, start_deadline_s=120.0)
        journal: Any = SimpleNamespace(event=lambda kind, **_: self.events.append(kind))
        self._ticket: Any = SimpleNamespace(detached=False, in_client=False)
        self._rm: Any = manager
        self._manager = ManagerCalls(lambda: self._rm, self._ticket, self._config, journal)
        self._manager.handle, self._manager.lives = HANDLE, True
        self._nothing = os.pipe()
        self._listener: Any = SimpleNamespace(fileno=lambda: self._nothing[0])
        self.turns = 0
        clients = SimpleNamespace(ever_came=False)
        self.job = self._manager.job = SimpleNamespace(  # type: ignore[assignment]
            returning=SimpleNamespace(was_over=was_over, note=lambda: None),
            ticket=lambda: TICKET,
            slots=[],
            all_gone=True,
            clients=clients,
            fail=lambda error: None,
            attempt=3,
            state=JobState.COMPLETED,
        )

    def _drain(self) -> bool:
        self.turns += 1
        self.job.clients.ever_came = self._rm.ticket == TICKET.encode()
        return True

    def close(self) -> None:
        self._manager.close()
        for descriptor in self._nothing:
            os.close(descriptor)


@pytest.fixture
def lives(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(process, "GOODBYE_S", 0.2)
    made: list[Life] = []

    def live(manager: Manager, *, was_over: bool = True) -> Life:
        made.append(Life(manager, was_over=was_over))
        made[-1]._say_goodbye()
        return made[-1]

    yield live
    for life in made:
        life.close()


def test_a_life_that_has_only_to_say_the_end_says_where_it_is(lives: Any) -> None:
    manager = Manager()
    assert lives(manager).job.clients.ever_came, "the client looks where the life before was"
    assert Ticket.decode(manager.ticket).master == 3


def test_the_ticket_of_a_life_that_has_run_the_job_is_out_already(lives: Any) -> None:
    manager = Manager()
    assert not lives(manager, was_over=False).job.clients.ever_came
    assert manager.ticket == b"before"


def test_where_it_cannot_be_said_that_is_written_down(lives: Any) -> None:
    life = lives(Manager(down=True))
    assert life.events == ["rm_error"]
    assert life.turns


@pytest.mark.parametrize(
    ("detached", "in_client", "returns", "noted", "removed"),
    [
        (True, False, True, True, True),
        (True, False, False, False, True),  # nobody starts it again
        (True, False, True, False, False),  # it is started again, and needs them
        (True, True, False, False, False),  # it has removed all there was
        (False, False, True, True, False),  # its client does that
    ],
)
def test_the_tickets_of_a_job_that_nobody_may_ask_for(
    lives: Any, detached: bool, in_client: bool, returns: bool, noted: bool, removed: bool
) -> None:
    manager = Manager()
    life = lives(manager)
    asked: list[JobHandle] = []
    manager.remove_secrets = asked.append  # type: ignore[attr-defined]
    life._ticket = SimpleNamespace(detached=detached, in_client=in_client)
    life._manager.returns, life._manager.noted = returns, noted
    life._remove_secrets()
    assert asked == [HANDLE] * removed
    assert life.events == []


@pytest.mark.parametrize(
    ("phase", "was_over", "removed"), [("lost", False, 1), ("absent", False, 0), ("absent", True, 1)]
)
def test_the_ticket_of_a_copy_that_is_still_to_come_stays(lives: Any, phase: str, was_over: bool, removed: int) -> None:
    """A life that only says the end knows of no copies."""
    manager = Manager()
    life = lives(manager, was_over=was_over)
    asked: list[JobHandle] = []
    manager.remove_secrets = asked.append  # type: ignore[attr-defined]
    life._ticket, life._manager.noted = SimpleNamespace(detached=True, in_client=False), True
    life.job.slots = [SimpleNamespace(phase="ended"), SimpleNamespace(phase=phase)]
    life._remove_secrets()
    assert asked == [HANDLE] * removed


def test_tickets_that_cannot_be_removed_keep_nobody(lives: Any) -> None:
    def refuses(handle: JobHandle) -> None:
        raise ResourceError("it is not allowed", why="a test", remedy="none")

    manager = Manager()
    life = lives(manager)
    manager.remove_secrets = refuses  # type: ignore[attr-defined]
    life._ticket, life._manager.noted = SimpleNamespace(detached=True, in_client=False), True
    life._remove_secrets()
    assert life.events == ["rm_error"]
