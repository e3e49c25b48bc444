"""A collective call by messages under way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twister2.worker.network.collectives.exchange import Exchange


class Running:
    """An algorithm and its exchange; :meth:`advance` goes on as far as messages have come."""

    __slots__ = ("_algorithm", "_exchange", "_settling", "_step")

    def __init__(self, begun: tuple[Exchange, Iterator[None] | None, Any]) -> None:
        self._exchange, self._algorithm, self._step = begun
        self._settling = False

    def advance(self) -> bool:
        """Whether it is complete."""
        algorithm = self._algorithm
        while algorithm is not None:
            for _ in algorithm:
                return False
            algorithm = self._algorithm = None if self._settling else self._exchange.settle()
            self._settling = True
        return True

    def what(self) -> str:
        """What is waited for."""
        step, rank = self._step, self._exchange.waits
        whom = f": for worker {self._exchange.members[rank]}" if rank >= 0 else ""
        return f"{step.fingerprint.kind}, step {step.number}{whom}"
