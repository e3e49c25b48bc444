"""A job master in a thread of the client's process, for workers that are threads: the same state machine, no
sockets.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from twister2.control.messages import Message
from twister2.master.calls import CallThread
from twister2.master.job import Job
from twister2.master.journal import Journal
from twister2.master.walltime import Walltime

if TYPE_CHECKING:
    import pathlib

    from twister2.control.ticket import Ticket
    from twister2.master.facts import JobFacts
    from twister2.spec.errors import Twister2Error
    from twister2.spec.rm import ResourceGroup
    from twister2.spec.state import StateStore

POLL_S = 0.1
GOODBYE_S = 2.0
TURN = 1000
"""Messages taken before timers and deadlines are looked at again."""

Deliver = Callable[[Message], None]
Notes = Callable[[], "dict[str, Any] | None"]


class LocalMaster:
    """Runs one job's state machine; workers and the client register a function that takes their messages."""

    def __init__(
        self, facts: JobFacts, join_key: str, package: bytes, folder: pathlib.Path, store: Callable[[], StateStore]
    ) -> None:
        self._inbox: queue.SimpleQueue[tuple[bytes, Message]] = queue.SimpleQueue()
        self._lock, self._over = threading.Lock(), False
        self._peers: dict[bytes, Deliver] = {}
        self._notes: dict[bytes, Notes] = {}
        self._kill, self._impatient = "", False
        self.journal = Journal(folder, limit_mb=facts.config.log_limit_mb)
        self._heartbeat_s, self._grace_s = facts.config.heartbeat_s, facts.config.kill_grace_s
        self._calls = CallThread("the state plugin")
        self.job = Job(facts, join_key, self._post, self, self.journal, store, self._calls)
        self.job.package = package
        self._walltime = Walltime(self.job)
        self._thread = threading.Thread(target=self._run, name="twister2-master", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def register(self, peer: bytes, deliver: Deliver, notes: Notes | None = None) -> None:
        """Let ``peer`` receive messages: ``deliver`` is called in the master's thread, and so is ``notes`` at every
        beat, for the body of the worker's message ``beat``, or None as long as it has none. Once the master has ended
        all that a peer hears is ``end``.
        """
        with self._lock:
            over = self._over
            self._peers[peer] = deliver
            if notes is not None:
                self._notes[peer] = notes
        if over:
            deliver(Message("end", {}))

    def send(self, peer: bytes, kind: str, body: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
        """Say something to the master; any thread."""
        self._inbox.put((peer, Message(kind, body, tuple(blobs))))

    def alive(self) -> bool:
        return self._thread.is_alive()

    def kill(self, reason: str) -> None:
        """End the job, whatever waits in the inbox; any thread. One that has been told to end is waited for no more."""
        self._impatient = self.job.state.final
        self._kill = reason

    def join(self, timeout_s: float) -> bool:
        """Wait for its end; whether it has ended. One that was never started never will be."""
        if self._thread.ident is None:
            self._close()
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _close(self) -> None:
        with self._lock:
            if self._over:
                return
            self._over, peers = True, list(self._peers.values())
        for deliver in peers:
            deliver(Message("end", {}))
        self._calls.close()
        self.journal.close()

    def _post(self, peer: bytes, kind: str, body: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
        deliver = self._peers.get(peer)
        if deliver is not None:
            deliver(Message(kind, body, tuple(blobs)))

    def _run(self) -> None:
        try:
            self._serve()
        finally:  # whatever happened, nobody may wait for this thread for ever
            self._close()

    def _serve(self) -> None:
        next_beat = 0.0
        while not self.job.state.final:
            self._drain(POLL_S, next_beat)
            if time.monotonic() >= next_beat:
                next_beat = time.monotonic() + self._heartbeat_s
                self._beat()
            self._calls.deliver()
            if self._kill:
                self.job.kill(self._kill)
            self.job.tick()
            self._walltime.look()
        until = time.monotonic() + GOODBYE_S + self._grace_s
        while not (self.job.all_gone and self.job.clients.ever_came) and time.monotonic() < until:
            if self._impatient:
                break
            self._drain(0.02, until)
        self.job.announce_end()

    def _beat(self) -> None:
        """Beats overtake what waits in the inbox: a thread is there as long as its process is, and is never lost."""
        with self._lock:
            notes = list(self._notes.items())
        for peer, note in notes:
            body = note()
            if body is not None:
                self.job.receive(peer, Message("beat", body))

    def _drain(self, timeout_s: float, until: float) -> None:
        """Take what has come, but no more than a turn's, nor (monotonic time) after ``until``; wait for the first."""
        with contextlib.suppress(queue.Empty):
            self._take(*self._inbox.get(timeout=timeout_s))
            for _ in range(TURN - 1):
                if time.monotonic() >= until:
                    return
                self._take(*self._inbox.get_nowait())

    def _take(self, peer: bytes, message: Message) -> None:
        if message.kind == "bye":
            with self._lock:
                self._notes.pop(peer, None)
        self.job.receive(peer, message)

    # -- there is no resource manager to ask: threads are started once and never again ---------------------------------

    def publish(self, ticket: Ticket) -> None:
        """Threads need no ticket."""

    def start_attempt(self, attempt: int, slots: Sequence[int]) -> None:
        """Never called: :meth:`restarts` says no."""

    def start_more(self, attempt: int, slots: Sequence[int], refused: Callable[[Twister2Error], None]) -> None:
        """Never called: :meth:`resizes` says no."""

    def resize(self, n_slots: int, group: ResourceGroup | None, refused: Callable[[Twister2Error], None]) -> None:
        """Never called: :meth:`resizes` says no."""

    def resizes(self) -> str:
        return "its workers are threads, which are fixed when the job starts"

    def stop(self, slots: Sequence[int]) -> None:
        """Never called: :meth:`resizes` says no."""

    def look(self) -> None:
        """There is nobody to ask."""

    def restarts(self, slots: Sequence[int]) -> bool:
        return False
