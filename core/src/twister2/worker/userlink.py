"""The user process's end of the line to its supervisor."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from twister2.spec.errors import MasterLostError, UsageError
from twister2.worker.conversation import Conversation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twister2.spec.network import Fingerprint, Group
    from twister2.worker.board import StepBoard
    from twister2.worker.pipe import Pipe


class ProcessLink(Conversation):
    """A :class:`~twister2.worker.link.Link` over a pipe and a shared page.

    It is the worker's own. A process that the program forks gets a copy of this object that reaches nobody: its log
    records go to stderr, its progress nowhere, and everything that needs the other workers raises.
    """

    def __init__(self, pipe: Pipe, board: StepBoard, worker_id: int, attempt: int) -> None:
        super().__init__(worker_id, attempt)
        self._pipe, self._board = pipe, board
        self._lock = threading.Lock()
        self._forked = False
        os.register_at_fork(after_in_child=self._let_go)

    def _let_go(self) -> None:
        """In a process that the program forked: half a message from here would be the end of the worker's line."""
        self._forked = True
        self._pipe.close()

    def _only_the_worker(self) -> None:
        if self._forked:
            raise UsageError(
                f"process {os.getpid()} is not worker {self.worker_id}, it was forked from it",
                why="a worker is one process: steps, barriers and commits are numbered in it",
                remedy="let forked processes compute and hand their results to the worker, e.g. with multiprocessing",
            )

    @property
    def aborted(self) -> bool:
        return self._board.aborted and not self._forked

    def learn_cause(self) -> None:
        deadline = time.monotonic() + 2.0
        while self._cause is None and not self._pipe.closed and time.monotonic() < deadline:
            self.poll(0.1)

    def fileno(self) -> int:
        return self._pipe.fileno()

    def poll(self, timeout_s: float = 0.0) -> bool:
        self._only_the_worker()
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

    def next_step(self, group: int) -> int:
        self._only_the_worker()
        return super().next_step(group)

    def enter_step(self, group: Group, number: int, fingerprint: Fingerprint) -> None:
        self._only_the_worker()
        self._board.enter(group.number, number, fingerprint)

    def begin_step(self, group: Group, fingerprint: Fingerprint) -> int:
        if self._forked:
            self._only_the_worker()
        key = group.number
        steps = self._steps
        number = steps[key] = steps.get(key, 0) + 1
        self._board.enter(key, number, fingerprint)
        return number

    def leave_step(self, group: Group, number: int) -> None:
        self._board.leave(group.number, number)

    def waiting(self, what: str) -> None:
        self._board.wait_for(what)

    def note_ways(self, text: str) -> None:
        self._board.note_ways(text)

    def post(self, kind: str, body: Mapping[str, Any], blob: bytes = b"") -> None:
        if self._forked:
            if kind == "log":
                print(f"{body['level']} {body['text']}", file=sys.stderr, flush=True)
            elif kind != "progress":
                self._only_the_worker()
            return
        with self._lock, contextlib.suppress(OSError):
            self._pipe.send(kind, body, blob)
