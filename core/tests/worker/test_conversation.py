"""Requests that are given up: a reply that comes late stays nowhere. Failures: told shortly, and whole in the log."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twister2.spec.errors import UserCodeError
from twister2.worker.conversation import LOG_PIECE, Conversation


class Late(Conversation):
    """A link whose master answers when it is told to."""

    aborted = False

    def __init__(self) -> None:
        super().__init__(0, 1)
        self.asked: list[int] = []
        self.said: list[tuple[str, Mapping[str, Any]]] = []

    def post(self, kind: str, body: Mapping[str, Any], blob: bytes = b"") -> None:
        self.said.append((kind, body))
        if kind == "request":
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


def test_a_failure_is_told_as_it_is() -> None:
    link = Late()
    error = UserCodeError("bug", why="y", remedy="z", details={"traceback": "t"})
    link.fail(error)
    assert link.said == [("failed", {"error": error.to_dict()})]


def test_a_failure_with_very_long_text_is_written_to_the_log_and_told_in_short() -> None:
    link = Late()
    error = UserCodeError("x" * 3 * LOG_PIECE, why="y", remedy="z", details={"traceback": "the frames"})
    link.fail(error)
    *others, (last, told) = link.said
    assert last == "failed"
    assert len(told["error"]["what"]) <= 10_000
    assert told["error"]["remedy"] == "z; the log of worker 0 has the whole text"
    assert {(kind, body["stream"]) for kind, body in others} == {("output", "")}
    assert "".join(body["text"] for _, body in others) == f"{error}\n"
    assert max(len(body["text"]) for _, body in others) <= LOG_PIECE
