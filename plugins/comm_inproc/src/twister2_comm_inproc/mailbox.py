"""The mailbox of one rank and the registry by which the ranks of a session find each other's."""

from __future__ import annotations

import collections
import os
import secrets
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twister2.spec.comm import TransportContext

Message = tuple[memoryview, ...]
Session = tuple[str, str, int]
"""Job, session and attempt: those who share all three talk to each other, nobody else."""


class Mailbox:
    """Messages for one rank: one bounded queue per sender, read in turns. Used by many threads.

    The event descriptor is readable while messages wait, and after :meth:`wake` until :meth:`slept`.
    """

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._max_messages, self._max_bytes = max_messages, max_bytes
        self._lock = threading.Lock()
        self._queues: dict[int, collections.deque[tuple[int, Message]]] = {}
        self._bytes: dict[int, int] = {}
        self._turns: collections.deque[int] = collections.deque()
        self._refused: dict[int, Mailbox] = {}
        self._room = False
        self._signalled = False
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.closed = False

    @property
    def fd(self) -> int:
        """The event descriptor."""
        return self._fd

    def put(self, sender: int, message: Message, size: int, answer_to: Mailbox) -> bool:
        """Queue a message, or refuse it; ``answer_to`` is then woken when there is room again."""
        with self._lock:
            if self.closed:
                return True  # its reader has left: nobody will miss the message
            queue = self._queues.get(sender)
            if queue is None:
                queue = self._queues[sender] = collections.deque()
                self._bytes[sender] = 0
            if queue and (len(queue) >= self._max_messages or self._bytes[sender] + size > self._max_bytes):
                self._refused[sender] = answer_to
                return False
            if not queue:
                self._turns.append(sender)
            queue.append((size, message))
            self._bytes[sender] += size
            self._signal()
            return True

    def get(self) -> tuple[int, Message] | None:
        """The next message, from the sender whose turn it is."""
        with self._lock:
            if not self._turns:
                self._clear()
                return None
            sender = self._turns.popleft()
            queue = self._queues[sender]
            size, message = queue.popleft()
            self._bytes[sender] -= size
            if queue:
                self._turns.append(sender)
            waiting = self._refused.pop(sender, None) if len(queue) <= self._max_messages // 2 else None
        # outside the lock: two mailboxes are never locked at once
        if waiting is not None:
            waiting.wake()
        return sender, message

    def held(self, sender: int) -> int:
        """How many messages of a sender wait here."""
        with self._lock:
            return len(self._queues.get(sender, ()))

    def wake(self) -> None:
        """A reader has made room for this rank's messages."""
        with self._lock:
            if not self.closed:
                self._room = True
                self._signal()

    def take_room(self) -> bool:
        """Whether a reader has made room since the last call."""
        with self._lock:
            room, self._room = self._room, False
            if room and not self._turns:
                self._clear()
            return room

    def close(self) -> None:
        """Drop what waits and release the descriptor; writers who were refused are woken to find out."""
        with self._lock:
            if self.closed:
                return
            self.closed = True
            waiting = list(self._refused.values())
            self._refused.clear()
            self._queues.clear()
            self._turns.clear()
            os.close(self._fd)
        for mailbox in waiting:
            mailbox.wake()

    def _signal(self) -> None:
        if not self._signalled:
            self._signalled = True
            os.eventfd_write(self._fd, 1)

    def _clear(self) -> None:
        if self._signalled and not self._room:
            self._signalled = False
            os.eventfd_read(self._fd)


class Registry:
    """All mailboxes of this process, by session and rank."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: dict[Session, dict[int, Mailbox]] = {}
        self.token = secrets.token_hex(8)
        self.pid = os.getpid()

    def add(self, session: Session, rank: int, mailbox: Mailbox) -> bool:
        """Register a rank; False when it is there already."""
        with self._lock:
            return self._sessions.setdefault(session, {}).setdefault(rank, mailbox) is mailbox

    def find(self, session: Session, rank: int) -> Mailbox | None:
        """The mailbox of a rank that is open, or None."""
        with self._lock:
            return self._sessions.get(session, {}).get(rank)

    def remove(self, session: Session, rank: int) -> None:
        """Forget a rank, and the session with its last rank."""
        with self._lock:
            ranks = self._sessions.get(session, {})
            ranks.pop(rank, None)
            if not ranks:
                self._sessions.pop(session, None)

    def sessions(self) -> int:
        """Number of sessions with a rank that is open."""
        with self._lock:
            return len(self._sessions)


_registry = Registry()


def registry() -> Registry:
    """The registry of this process; a forked child gets one of its own, with a token of its own."""
    global _registry
    if _registry.pid != os.getpid():
        _registry = Registry()
    return _registry


def session_of(context: TransportContext) -> Session:
    """The session a transport belongs to."""
    return context.job_id, context.session, context.attempt
