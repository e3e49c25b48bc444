"""The user process's end of the line to its supervisor."""

from __future__ import annotations

import contextlib
import select
import threading
import time
from collections.abc import Mapping
from typing import Any

from twister2.spec.environment import WorkerEvent
from twister2.spec.errors import MasterLostError, StepAbortedError, Twister2Error, from_dict
from twister2.spec.network import Fingerprint, Group
from twister2.worker.board import StepBoard
from twister2.worker.link import Link
from twister2.worker.pipe import Pipe


class ProcessLink(Link):
    """A :class:`Link` over a pipe and a shared page."""

    def __init__(self, pipe: Pipe, board: StepBoard, worker_id: int, attempt: int) -> None:
        self.worker_id, self.attempt = worker_id, attempt
        self._pipe, self._board = pipe, board
        self._cause: Twister2Error | None = None
        self._answers: dict[tuple[str, str], list[Any]] = {}
        self._lock = threading.Lock()
        self._events: list[WorkerEvent] = []
        self._steps: dict[int, int] = {}
        self._replies: dict[int, tuple[dict[str, Any], bytes]] = {}
        self._requests = 0

    @property
    def aborted(self) -> bool:
        return self._board.aborted

    def raise_if_aborted(self) -> None:
        if not self._board.aborted:
            return
        if self._cause is None:
            self._wait_for_cause()
        assert self._cause is not None
        raise from_dict(self._cause.to_dict())

    def _wait_for_cause(self) -> None:
        deadline = time.monotonic() + 2.0
        while self._cause is None and not self._pipe.closed and time.monotonic() < deadline:
            self.poll(0.1)
        if self._cause is None:
            self._cause = StepAbortedError(
                "the attempt was aborted",
                why="the supervisor raised the abort flag",
                remedy="see the job's first error",
            )

    def fileno(self) -> int:
        return self._pipe.fileno()

    def poll(self, timeout_s: float = 0.0) -> bool:
        came = False
        while (frame := self._pipe.receive()) is not None:
            came = True
            self._take(*frame)
        if self._pipe.closed and self._cause is None:
            self._board.abort()
            self._cause = MasterLostError(
                "this worker's supervisor has gone", why="its end of the pipe is closed", remedy="see the job's log"
            )
        if not came and timeout_s > 0 and not self._pipe.closed:
            if select.select([self._pipe], [], [], timeout_s)[0]:
                return self.poll(0.0)
        return came

    def _take(self, kind: str, body: dict[str, Any], blob: bytes) -> None:
        if kind == "abort":
            self._cause = self._cause or from_dict(body["error"])
            self._board.abort()
        elif kind == "exchanged":
            self._answers[(body["kind"], body["name"])] = body["values"]
        elif kind == "event":
            self._events.append(WorkerEvent(**body))
        elif kind == "reply":
            self._replies[body["request"]] = (body, blob)

    def receive(self, timeout_s: float | None) -> tuple[str, dict[str, Any], bytes] | None:
        """The next frame for the program's start (``package``, ``start``); aborts are taken in on the way."""
        frame = self._pipe.receive_within(timeout_s)
        if frame is not None and frame[0] != "start":
            self._take(*frame)
        return frame

    @property
    def closed(self) -> bool:
        return self._pipe.closed

    def next_step(self, group: int) -> int:
        number = self._steps.get(group, 0) + 1
        self._steps[group] = number
        return number

    def enter_step(self, group: Group, number: int, fingerprint: Fingerprint) -> None:
        self._board.enter(group.number, number, fingerprint)

    def leave_step(self, group: Group, number: int) -> None:
        self._board.leave(group.number, number)

    def waiting(self, what: str) -> None:
        self._board.wait_for(what)

    def post(self, kind: str, body: Mapping[str, Any], blob: bytes = b"") -> None:
        with self._lock, contextlib.suppress(OSError):
            self._pipe.send(kind, body, blob)

    def exchange(self, kind: str, name: str, value: Any, deadline_s: float | None) -> list[Any]:
        self.raise_if_aborted()
        self.waiting(f"{kind} {name!r}" if name else kind)
        self.post("exchange", {"kind": kind, "name": name, "value": value, "deadline_s": deadline_s})
        try:
            while (kind, name) not in self._answers:
                self.poll(1.0)
                self.raise_if_aborted()
            return self._answers.pop((kind, name))
        finally:
            self.waiting("")

    def request(self, kind: str, body: Mapping[str, Any], blob: bytes = b"") -> bytes | None:
        self._requests += 1
        number = self._requests
        self.post("request", {"request": number, "kind": kind, "body": dict(body)}, blob)
        while number not in self._replies:
            self.raise_if_aborted()
            self.poll(1.0)
        answer, data = self._replies.pop(number)
        if "error" in answer:
            raise from_dict(answer["error"])
        return data if answer["found"] else None

    def take_events(self) -> list[WorkerEvent]:
        self.poll()
        taken, self._events = self._events, []
        return taken

    def fail(self, error: Twister2Error) -> None:
        self.post("failed", {"error": error.to_dict()})
