"""Exchanges: named barriers with a small value from every worker."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import attrs

from twister2.spec.errors import DeadlineError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twister2.control.messages import Message
    from twister2.master.clients import Post
    from twister2.master.slots import Slot


@attrs.define
class Exchange:
    """One exchange under way."""

    kind: str
    name: str
    values: dict[int, Any] = attrs.field(factory=dict)
    deadline: float | None = None
    deadline_s: float = 0.0


class Exchanges:
    """All exchanges of an attempt."""

    def __init__(self, slots: Sequence[Slot], post: Post) -> None:
        self._slots, self._post = slots, post
        self.reset()

    def reset(self) -> None:
        """A new attempt."""
        self._n = len(self._slots)
        self._open: dict[tuple[str, str], Exchange] = {}
        self._fence: dict[int, Mapping[str, str]] = {}

    def exchange(self, slot: Slot, message: Message) -> None:
        """Take a worker's value; all get all values, by worker id, once everybody has come."""
        body = message.body
        kind, name, deadline_s = body["kind"], body["name"], body["deadline_s"]
        exchange = self._open.setdefault((kind, name), Exchange(kind, name))
        exchange.values[slot.number] = body["value"]
        if deadline_s and exchange.deadline is None:
            exchange.deadline, exchange.deadline_s = time.monotonic() + deadline_s, deadline_s
        if len(exchange.values) == self._n:
            del self._open[(kind, name)]
            values = [exchange.values[index] for index in range(self._n)]
            self._tell_all("exchanged", {"kind": kind, "name": name, "values": values})

    def fence(self, slot: Slot, message: Message) -> None:
        """Take the key-value pairs that a rank brings to a PMI fence; all get everybody's once all have come."""
        self._fence[slot.number] = message.body["puts"]
        if len(self._fence) == self._n:
            everything = {key: value for each in self._fence.values() for key, value in each.items()}
            self._fence = {}
            self._tell_all("fenced", {"puts": everything})

    def _tell_all(self, kind: str, body: dict[str, Any]) -> None:
        for slot in self._slots:
            self._post(slot.peer, kind, body)

    def overdue(self) -> DeadlineError | None:
        """The error of an exchange whose deadline has passed."""
        now = time.monotonic()
        for exchange in self._open.values():
            if exchange.deadline is not None and now > exchange.deadline:
                missing = [str(worker) for worker in range(self._n) if worker not in exchange.values]
                name = exchange.name.rpartition("#")[0]
                return DeadlineError(
                    f"{exchange.kind} {name!r} was not complete within {exchange.deadline_s:g} s",
                    why=f"these workers did not come: {', '.join(missing)}",
                    remedy="raise the deadline if they are only slow; 'twister2 status' shows what they do",
                    details={"missing": [int(worker) for worker in missing]},
                )
        return None
