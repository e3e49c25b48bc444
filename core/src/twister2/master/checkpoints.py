"""The committed checkpoints of a job: which is the latest, which are dropped, and the store for workers without
access.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from twister2.spec.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Callable

    from twister2.control.messages import Message
    from twister2.master.calls import Calls
    from twister2.master.clients import Clients, Post
    from twister2.master.facts import JobFacts
    from twister2.master.journal import Journal
    from twister2.master.slots import Slot
    from twister2.spec.errors import Twister2Error
    from twister2.spec.state import StateStore

REMOVE_S = 30.0
"""How long removing the checkpoints at the end of a job may take."""


class Checkpoints:
    """Bookkeeping of one job. The store is made at its first use, and used in the thread of ``calls`` only: a slow one
    holds up nothing but those who wait for it.
    """

    def __init__(
        self,
        facts: JobFacts,
        post: Post,
        clients: Clients,
        journal: Journal,
        store: Callable[[], StateStore],
        calls: Calls,
    ) -> None:
        self._prefix, self._keep = f"checkpoints/{facts.job_id}/", facts.config.checkpoint.keep
        self._post, self._clients, self._journal, self._store, self._calls = post, clients, journal, store, calls
        self.latest = 0
        self.per_worker = False
        """Whether the latest has values that each worker has of its own: it fits the same number of workers only."""
        self.begun = False
        """Whether there may be something of the job in the store."""

    def committing(self, slot: Slot, message: Message) -> None:
        """A worker is about to write its first objects."""
        self.begun = True

    def committed(self, slot: Slot, message: Message) -> None:
        """A checkpoint is complete; one that is no longer kept goes."""
        self.latest, self.per_worker = int(message.body["checkpoint"]), bool(message.body.get("per_worker"))
        self._journal.event("checkpoint_committed", checkpoint=self.latest)
        self._clients.tell("checkpoint", {"number": self.latest})
        old = f"{self._prefix}{self.latest - self._keep:08d}/"
        if self.latest > self._keep:
            self._calls.call(lambda: self._store().delete_all(old), lambda _, error: self._left(error))

    def find_latest(self, then: Callable[[Twister2Error | None], None]) -> None:
        """Look into the store for the latest commit; ``then`` hears when it is known, or why it is not."""
        self.begun = True

        def look() -> tuple[int, bool]:
            keys = [key for key in self._store().list(self._prefix) if key.endswith("/manifest")]
            if not keys:
                return 0, False
            facts = json.loads(self._store().get(keys[-1]) or b"{}")
            return int(keys[-1].split("/")[-2]), bool(facts.get("worker"))

        def done(found: tuple[int, bool] | None, error: Twister2Error | None) -> None:
            if found is not None:
                self.latest, self.per_worker = found
            then(error)

        self._calls.call(look, done)

    def request(self, slot: Slot, message: Message) -> None:
        """Put or get an object for a worker that does not see the store. Requests are served in order; what goes wrong
        is told to the worker that asked.
        """
        peer, put, key = slot.peer, message.body["kind"] == "state_put", str(message.body["body"]["key"])
        data = message.blobs[0] if put else b""
        answer: dict[str, Any] = {"request": message.body["request"], "attempt": message.body["attempt"], "found": True}

        def serve() -> bytes | None:
            if not key.startswith(self._prefix):
                raise StateError(
                    f"a worker asked for {key}",
                    why="workers may use the checkpoints of their own job only",
                    remedy="use another name for the state variable",
                )
            if not put:
                return self._store().get(key)
            self._store().put(key, data)
            return b""

        def done(found: bytes | None, error: Twister2Error | None) -> None:
            if error is not None:
                answer["error"] = error.to_dict()
            answer["found"] = found is not None
            self._post(peer, "reply", answer, [found or b""])

        self._calls.call(serve, done)

    def remove_all(self) -> None:
        """The job is over, and nobody writes any more."""
        if self.begun or self.latest:
            self._left(self._calls.finish(lambda: self._store().delete_all(self._prefix), REMOVE_S))

    def _left(self, error: Twister2Error | None) -> None:
        if error is not None:
            self._journal.event("checkpoints_left", error=error.to_dict())
