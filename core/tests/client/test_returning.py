"""A client whose job master is started again elsewhere finds it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import pytest

from twister2.client import returning
from twister2.client.returning import ReturningConnection
from twister2.control.channel import Dialer, Listener
from twister2.control.messages import Message
from twister2.control.ticket import curve_pair
from twister2.spec.errors import ResourceError

pytestmark = pytest.mark.timeout(120)


class Life:
    """A master that answers pings, and clients that attach."""

    def __init__(self, keys: tuple[str, str]) -> None:
        self.heard: list[str] = []
        self._listener, self._ends = Listener(("tcp://127.0.0.1:*",), *keys), threading.Event()
        self.addresses = self._listener.addresses
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        answers = {"attach": "attached", "ping": "pong"}
        while not self._ends.is_set():
            if (came := self._listener.receive(0.05)) is not None:
                self.heard.append(came[1].kind)
                if came[1].kind in answers:
                    self._listener.send(
                        came[0], answers[came[1].kind], {"wants_package": False, "token": str(id(self))}
                    )
        self._listener.close()

    def end(self) -> None:
        self._ends.set()
        self._thread.join(30)


def next_message(connection: ReturningConnection, done: Callable[[], bool] = lambda: False) -> Message | None:
    end = time.monotonic() + 60
    while time.monotonic() < end and not done():
        if (message := connection.receive(0.05)) is not None:
            return message
    return None


def test_it_finds_the_master_where_it_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("PING_S", 0.1), ("ABSENT_S", 3.0), ("LOOK_S", 0.05), ("ANSWER_S", 20.0)):
        monkeypatch.setattr(returning, name, seconds)
    keys = curve_pair()
    first = Life(keys)
    asked: list[str] = []
    there: list[Life] = []

    def find() -> Sequence[str]:
        asked.append("where")
        if not there:
            raise ResourceError("it does not run", why="a test", remedy="wait")
        return there[0].addresses

    connection = ReturningConnection(Dialer(first.addresses, keys[0], deadline_s=20.0), find, keys[0], "the key")
    message = next_message(connection)
    assert message is not None
    assert message.kind == "attached"
    assert next_message(connection, lambda: "ping" in first.heard) is None, "a ping's answer is nobody's message"
    assert connection.absent_s == 0
    first.end()
    assert next_message(connection, lambda: len(asked) > 2) is None
    assert connection.absent_s > 0
    second = Life(keys)
    there.append(second)
    message = next_message(connection)
    assert message is not None
    assert message.kind == "attached", "what the new life says of the job does not come first"
    assert connection.absent_s == 0
    connection.send("took", {"size": 1})
    next_message(connection, lambda: "took" in second.heard)
    assert "took" in second.heard
    connection.close()
    second.end()
