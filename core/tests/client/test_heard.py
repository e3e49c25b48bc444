"""What a master says is heard once, whatever becomes of the connection: it is kept until it has come."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import twister2.master
from twister2.client import returning
from twister2.client.returning import ReturningConnection
from twister2.config import JobConfig
from twister2.control.messages import TOLD, Message
from twister2.master.calls import CallThread
from twister2.master.facts import JobFacts
from twister2.master.job import Job
from twister2.master.journal import Journal
from twister2.spec.rm import ResourceGroup


class Line:
    """A connection to the master. When it is cut nothing comes through any more, and neither end is told."""

    def __init__(self, job: Job, peer: bytes) -> None:
        self._job, self.peer = job, peer
        self.inbox: deque[Message] = deque()
        self.cut = False

    def send(self, kind: str, body: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
        if not self.cut:
            self._job.receive(self.peer, Message(kind, body, tuple(blobs)))

    def receive(self, timeout_s: float) -> Message | None:
        if self.inbox and not self.cut:
            return self.inbox.popleft()
        time.sleep(min(timeout_s, 0.01))
        return None

    def request(self, kind: str, body: dict[str, Any], answers: Sequence[str], deadline_s: float) -> Message:
        self.send(kind, body)
        answer = self.inbox.popleft()
        assert answer.kind in answers
        return answer

    def close(self, linger_s: float = 0.0) -> None:
        self.cut = True


class Master:
    """A job without workers, and lines to it."""

    def __init__(self, folder: Path) -> None:
        self.lines: dict[bytes, Line] = {}
        self.calls, self.journal = CallThread("a test"), Journal(folder)
        facts = JobFacts("job-1", "job", JobConfig(workers=1), (ResourceGroup("worker", 1),), "p", "key")
        self.job = Job(facts, "join", self.post, None, self.journal, None, self.calls)  # type: ignore[arg-type]

    def post(self, peer: bytes, kind: str, body: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
        if peer in self.lines and not self.lines[peer].cut:
            self.lines[peer].inbox.append(Message(kind, body, tuple(blobs)))

    def line(self) -> Line:
        peer = f"client {len(self.lines)}".encode()
        self.lines[peer] = Line(self.job, peer)
        return self.lines[peer]

    def writes(self, text: str) -> None:
        self.job.clients.tell("output", {"worker": 0, "stream": "stdout", "text": text})

    def waits(self) -> bool:
        return self.job.clients.waits_to_hear(60.0)


@pytest.fixture
def master(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Master]:
    master = Master(tmp_path)
    monkeypatch.setattr(returning, "Dialer", lambda *_, **__: master.line())
    for name in ("PING_S", "ABSENT_S", "LOOK_S", "HEARD_S"):
        monkeypatch.setattr(returning, name, 0.02)
    yield master
    master.calls.close()
    master.journal.close()


def connected(master: Master) -> ReturningConnection:
    line: Any = master.line()
    return ReturningConnection(line, lambda: ("tcp://elsewhere",), "public", "key")


def heard(connection: ReturningConnection, last: str) -> list[str]:
    """Texts of the output, or kinds of what else the master tells, until the last of them."""
    found: list[str] = []
    deadline = time.monotonic() + 30
    while last not in found:
        assert time.monotonic() < deadline, found
        if (message := connection.receive(0.01)) is not None and message.kind in TOLD:
            found.append(str(message.body.get("text", message.kind)))
    return found


def test_a_socket_that_has_connected_anew_by_itself_is_attached_anew(
    master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(returning, "ABSENT_S", 1000.0)
    connection = connected(master)
    master.writes("one")
    assert heard(connection, "one") == ["one"]
    master.writes("two")
    ((_, line),) = master.lines.items()
    line.inbox.clear()
    line.peer = b"the same from another port"
    master.lines = {line.peer: line}
    master.job.announce_end()
    assert heard(connection, "ended") == ["two", "ended"]
    assert list(master.lines) == [line.peer]


def test_all_that_a_socket_says_before_it_is_attached_anew_is_refused(
    master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waited for its new connection is refused one by one; that is no refusal of the client."""
    monkeypatch.setattr(returning, "ABSENT_S", 1000.0)
    connection = connected(master)
    master.writes("one")
    assert heard(connection, "one") == ["one"]
    ((_, line),) = master.lines.items()
    line.peer = b"the same from another port"
    master.lines = {line.peer: line}
    for _ in range(3):
        connection.send("took", {"size": 1})
    assert [message.kind for message in line.inbox] == ["refused"] * 3
    master.writes("two")
    master.job.announce_end()
    kinds: list[str] = []
    deadline = time.monotonic() + 30
    while "ended" not in kinds:
        assert time.monotonic() < deadline, kinds
        if (message := connection.receive(0.01)) is not None:
            kinds.append(message.kind)
    assert kinds == ["attached", "output", "ended"]


def test_a_master_is_looked_for_where_it_goes_on_refusing(master: Master, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection has broken again, and the word by which the client is attached went with it."""
    monkeypatch.setattr(returning, "ABSENT_S", 0.5)  # asked many times before, and refused
    connection = connected(master)
    master.writes("one")
    assert heard(connection, "one") == ["one"]
    ((_, line),) = master.lines.items()
    connection._is_attached = False
    line.peer = b"the same from another port"
    master.lines = {line.peer: line}
    master.writes("two")
    assert heard(connection, "two") == ["two"]


def test_a_master_that_was_started_again_tells_what_the_one_before_did_not(master: Master) -> None:
    """It takes long to answer at first, so that the client comes twice. Of what it tells nothing has been heard."""
    connection = connected(master)
    for text in ("one", "two", "three"):
        master.writes(text)
    assert heard(connection, "three") == ["one", "two", "three"]
    cut(master)
    facts = master.job.facts
    master.job = Job(facts, "join", master.post, None, master.journal, None, master.calls)  # type: ignore[arg-type]
    first = master.line()
    first.send("attach", connection._attach())
    first.cut = True
    master.writes("four")
    master.writes("five")
    assert heard(connection, "five") == ["four", "five"]


def cut(master: Master) -> None:
    for line in master.lines.values():
        line.cut = True


def test_what_was_on_its_way_when_the_connection_broke_comes_once(master: Master) -> None:
    master.writes("early")
    connection = connected(master)
    master.writes("one")
    assert heard(connection, "one") == ["early", "one"]
    master.writes("two")
    cut(master)
    master.writes("three")
    master.job.announce_end()
    assert master.waits()
    assert heard(connection, "ended") == ["two", "three", "ended"]
    assert not master.waits()


def test_it_breaks_again_and_again(master: Master) -> None:
    connection = connected(master)
    for number in range(5):
        master.writes(f"text {number}")
        cut(master)
    assert heard(connection, "text 4") == [f"text {number}" for number in range(5)]
    cut(master)
    master.job.announce_end()
    assert heard(connection, "ended") == ["ended"]


def test_who_is_slow_is_not_told_twice(master: Master) -> None:
    """The master was busy: the connection is made anew though nothing was wrong with it, and then less soon."""
    connection = connected(master)
    master.writes("one")
    assert heard(connection, "one") == ["one"]
    deadline = time.monotonic() + 30
    while len(master.lines) < 2:
        assert time.monotonic() < deadline
        for line in master.lines.values():
            line.inbox.clear()
        connection.receive(0.0)
    master.writes("two")
    assert heard(connection, "two") == ["two"]


def test_a_client_that_has_gone_is_not_waited_for(master: Master) -> None:
    connected(master)
    master.job.announce_end()
    assert master.waits()
    time.sleep(0.05)
    assert not master.job.clients.waits_to_hear(0.04)


def test_nothing_is_told_behind_the_end(master: Master) -> None:
    """A client that has heard the end has gone: the master would wait for it."""
    connection = connected(master)
    master.job.announce_end()
    master.writes("a warning that comes late")
    heard(connection, "ended")
    assert not master.waits()


def test_what_a_follower_is_told_is_known_to_be_kept() -> None:
    """Both ends count the same kinds."""
    sources = Path(twister2.master.__path__[0]).glob("*.py")
    told = {kind for path in sources for kind in re.findall(r'clients\.tell\(\s*"(\w+)"', path.read_text())}
    assert told == TOLD
