"""The user process's end of the line to its supervisor."""

from __future__ import annotations

import contextlib
import select
import threading
import time
from typing import TYPE_CHECKING, Any

from twister2.spec.errors import MasterLostError
from twister2.worker.conversation import Conversation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twister2.spec.network import Fingerprint, Group
    from twister2.worker.board import StepBoard
    from twister2.worker.pipe import Pipe


class ProcessLink(Conversation):
    """A :class:`~twister2.worker.link.Link` over a pipe and a shared page."""

    def __init__(self, pipe: Pipe, board: StepBoard, worker_id: int, attempt: int) -> None:
        super().__init__(worker_id, attempt)
        self._pipe, self._board = pipe, board
        self._lock = threading.Lock()

    @property
    def aborted(self) -> bool:
        return self._board.aborted

    def learn_cause(self) -> None:
        deadline = time.monotonic() + 2.0
        while self._cause is None and not self._pipe.closed and time.monotonic() < deadline:
            self.poll(0.1)

    def fileno(self) -> int:
        return self._pipe.fileno()

    def poll(self, timeout_s: float = 0.0) -> bool:
        came = False
        while (frame := self._pipe.receive()) is not None:
            came = True
            self.take(*frame)
        if self._pipe.closed and self._cause is None:
            self._board.abort()
            self._cause = MasterLostError(
                "this worker's supervisor has gone", why="its end of the pipe is closed", remedy="see the job's log"
            )
        wait = not came and timeout_s > 0 and not self._pipe.closed
        if wait and select.select([self._pipe], [], [], timeout_s)[0]:
            return self.poll(0.0)
        return came

    def take(self, kind: str, body: Mapping[str, Any], blob: bytes) -> None:
        super().take(kind, body, blob)
        if kind == "abort":
            self._board.abort()

    def receive(self, timeout_s: float | None) -> tuple[str, dict[str, Any], bytes] | None:
        """The next frame for the program's start (``start``); aborts and the like are taken in on the way."""
        frame = self._pipe.receive_within(timeout_s)
        if frame is not None and frame[0] != "start":
            self.take(*frame)
        return frame

    @property
    def closed(self) -> bool:
        return self._pipe.closed

    def enter_step(self, group: Group, number: int, fingerprint: Fingerprint) -> None:
        self._board.enter(group.number, number, fingerprint)

    def leave_step(self, group: Group, number: int) -> None:
        self._board.leave(group.number, number)

    def waiting(self, what: str) -> None:
        self._board.wait_for(what)

    def post(self, kind: str, body: Mapping[str, Any], blob: bytes = b"") -> None:
        with self._lock, contextlib.suppress(OSError):
            self._pipe.send(kind, body, blob)
