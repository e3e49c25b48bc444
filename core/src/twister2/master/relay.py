"""What workers say to people: output, log records, progress. On its way to the logs and the clients."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from twister2.control.messages import Message, weight_of
from twister2.spec.errors import printable

if TYPE_CHECKING:
    from twister2.master.clients import Clients, Post
    from twister2.master.journal import Journal
    from twister2.master.slots import Slot

PROGRESS_EVERY_S = 0.1


class Relay:
    """Passes on what workers write, no faster than the clients take it."""

    def __init__(self, post: Post, clients: Clients, journal: Journal) -> None:
        self._post, self._clients, self._journal = post, clients, journal
        self._owed: deque[tuple[bytes, dict[str, Any]]] = deque()
        """Leave to write more that workers have not got yet."""
        self._progress_sent: dict[int, float] = {}
        journal.troubled = lambda text: self.warn(f"warning: {text}\n")

    def output(self, slot: Slot, message: Message) -> None:
        """A piece of a worker's stdout or stderr; of neither (``""``): for its log alone."""
        self._taken(slot, message)
        self._journal.output(slot.number, message.body["text"])
        if message.body["stream"] or self._journal.mirrored:
            self._clients.tell("output", {"worker": slot.number, **message.body})

    def log(self, slot: Slot, message: Message) -> None:
        """A log record of a worker; unlike what it prints, text for people, which must not move the cursor."""
        body = message.body
        self._taken(slot, message)
        clock = time.strftime("%H:%M:%S", time.localtime(body["time"]))
        said = printable(body["text"].replace("\r\n", "\n"))
        text = f"{clock} {body['level']} worker {slot.number}: {said}\n"
        self._journal.output(slot.number, text)
        self._clients.tell("output", {"worker": slot.number, "stream": "log", "text": text})

    def progress(self, slot: Slot, message: Message) -> None:
        """How far a worker is; at most a few a second go on."""
        self._taken(slot, message)
        slot.note_progress(message.body)
        now = time.monotonic()
        if now - self._progress_sent.get(slot.number, 0.0) >= PROGRESS_EVERY_S or any(
            message.body.get(name) for name in ("done", "final")
        ):
            self._progress_sent[slot.number] = now
            self._clients.tell("progress", {"worker": slot.number, **message.body})

    def warn(self, text: str) -> None:
        """Something the master itself has to say to the user."""
        self._clients.tell("output", {"worker": -1, "stream": "log", "text": text})

    def release(self) -> None:
        """Let programs write more, once the clients have room."""
        while self._owed and not self._clients.clogged:
            peer, body = self._owed.popleft()
            self._post(peer, "taken", body)

    def _taken(self, slot: Slot, message: Message) -> None:
        body = {"size": weight_of(message.kind, message.body), "attempt": message.body["attempt"]}
        self._owed.append((slot.peer, body))
        self.release()
