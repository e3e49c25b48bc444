"""Exchanges: named barriers with a small value from every worker."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import attrs

from twister2.spec.errors import DeadlineError

if TYPE_CHECKING:
    from collections.abc import Mapping


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

    def __init__(self, n_workers: int) -> None:
        self._n = n_workers
        self._open: dict[tuple[str, str], Exchange] = {}
        self._fence: dict[int, Mapping[str, str]] = {}

    def add(self, worker: int, kind: str, name: str, value: Any, deadline_s: float | None) -> list[Any] | None:
        """Take a worker's value; returns all values by worker id once everybody has come."""
        exchange = self._open.setdefault((kind, name), Exchange(kind, name))
        exchange.values[worker] = value
        if deadline_s and exchange.deadline is None:
            exchange.deadline, exchange.deadline_s = time.monotonic() + deadline_s, deadline_s
        if len(exchange.values) < self._n:
            return None
        del self._open[(kind, name)]
        return [exchange.values[index] for index in range(self._n)]

    def fence(self, rank: int, puts: Mapping[str, str]) -> dict[str, str] | None:
        """Take the pairs a rank brings to a PMI fence; returns everybody's once all have come."""
        self._fence[rank] = puts
        if len(self._fence) < self._n:
            return None
        everything = {key: value for each in self._fence.values() for key, value in each.items()}
        self._fence = {}
        return everything

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
