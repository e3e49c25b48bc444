"""A job master in a thread of the client's process, for workers that are threads: the same state machine, no
sockets.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from twister2.control.messages import Message
from twister2.master.calls import CallThread
from twister2.master.job import Job
from twister2.master.journal import Journal

if TYPE_CHECKING:
    import pathlib

    from twister2.control.ticket import Ticket
    from twister2.master.facts import JobFacts
    from twister2.spec.state import StateStore

POLL_S = 0.1
GOODBYE_S = 2.0

Deliver = Callable[[Message], None]


class LocalMaster:
    """Runs one job's state machine; workers and the client register a function that takes their messages."""

    def __init__(
        self, facts: JobFacts, join_key: str, package: bytes, folder: pathlib.Path, store: Callable[[], StateStore]
    ) -> None:
        self._inbox: queue.SimpleQueue[tuple[bytes, Message]] = queue.SimpleQueue()
        self._peers: dict[bytes, Deliver] = {}
        self._beats: list[Callable[[], None]] = []
        self.journal = Journal(folder, limit_mb=facts.config.log_limit_mb)
        self._heartbeat_s, self._grace_s = facts.config.heartbeat_s, facts.config.kill_grace_s
        self._calls = CallThread("the state plugin")
        self.job = Job(facts, join_key, self._post, self, self.journal, store, self._calls)
        self.job.package = package
        self._thread = threading.Thread(target=self._run, name="twister2-master", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def register(self, peer: bytes, deliver: Deliver, beat: Callable[[], None] | None = None) -> None:
        """Let ``peer`` receive messages: ``deliver`` is called in the master's thread, and so is ``beat`` at every
        beat.
        """
        self._peers[peer] = deliver
        if beat is not None:
            self._beats.append(beat)

    def send(self, peer: bytes, kind: str, body: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
        """Say something to the master; any thread."""
        self._inbox.put((peer, Message(kind, body, tuple(blobs))))

    def alive(self) -> bool:
        return self._thread.is_alive()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def _post(self, peer: bytes, kind: str, body: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
        deliver = self._peers.get(peer)
        if deliver is not None:
            deliver(Message(kind, body, tuple(blobs)))

    def _run(self) -> None:
        try:
            self._serve()
        finally:  # whatever happened, nobody may wait for this thread for ever
            for deliver in self._peers.values():
                deliver(Message("end", {}))
            self._calls.close()
            self.journal.close()

    def _serve(self) -> None:
        next_beat = 0.0
        while not self.job.state.final:
            if time.monotonic() >= next_beat:
                next_beat = time.monotonic() + self._heartbeat_s
                for beat in self._beats:
                    beat()
            self._take(POLL_S)
            self._calls.deliver()
            self.job.tick()
        until = time.monotonic() + GOODBYE_S + self._grace_s
        while not (self.job.all_gone and self.job.clients.ever_came) and time.monotonic() < until:
            self._take(0.02)
        self.job.announce_end()

    def _take(self, timeout_s: float) -> None:
        try:
            self.job.receive(*self._inbox.get(timeout=timeout_s))
        except queue.Empty:
            return

    # -- there is no resource manager to ask: threads are started once and never again ---------------------------------

    def publish(self, ticket: Ticket) -> None:
        """Threads need no ticket."""

    def start_attempt(self, attempt: int, slots: Sequence[int]) -> None:
        """Never called: :meth:`restarts` says no."""

    def restarts(self, slots: Sequence[int]) -> bool:
        return False
