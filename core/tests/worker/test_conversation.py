"""Requests that are given up: a reply that comes late stays nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twister2.worker.conversation import Conversation


class Late(Conversation):
    """A link whose master answers when it is told to."""

    aborted = False

    def __init__(self) -> None:
        super().__init__(0, 1)
        self.asked: list[int] = []

    def post(self, kind: str, body: Mapping[str, Any], blob: bytes = b"") -> None:
        self.asked.append(body["request"])

    def poll(self, timeout_s: float = 0.0) -> bool:
        return False

    def reply(self, number: int) -> None:
        self.take("reply", {"request": number, "found": True}, b"value")

    def learn_cause(self) -> None:
        """Never aborted."""

    def waiting(self, what: str) -> None:
        """Nobody looks."""

    def fileno(self) -> int:
        return -1

    def enter_step(self, *_: object) -> None:
        """No steps."""

    leave_step = enter_step


def test_a_reply_that_nobody_waits_for_is_not_kept() -> None:
    link = Late()
    assert link.request("get", {}, deadline_s=0.01) is None
    link.reply(link.asked[-1])
    assert not link._replies
    assert not link._given_up


def test_the_next_request_has_its_own_reply(monkeypatch: Any) -> None:
    link = Late()
    assert link.request("get", {}, deadline_s=0.01) is None
    monkeypatch.setattr(link, "poll", lambda timeout_s=0.0: link.reply(link.asked[-1]))
    assert link.request("get", {}, deadline_s=5.0) == b"value"
