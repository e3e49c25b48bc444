"""What all workers of an operator tell each other once: everybody's part, joined in order of worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from twister2.spec.patterns import Run, exchange
from twister2_net.exchange.lanes import LaneOperator, workers_of

if TYPE_CHECKING:
    from collections.abc import Sequence

SECOND_PORT: Final = 1 << 30
"""Added to the number of the edge for a port beside that of the records."""


class Agreement:
    """One exchange of lists beside the records of an operator, over a port of its own. It never waits."""

    def __init__(self, owner: LaneOperator) -> None:
        context = owner.context
        workers = workers_of([*context.sources, *context.targets])
        me = context.network.worker_id
        self._rank = workers.index(me) if me in workers else -1
        self._size = len(workers)
        self._port = context.network.open_port(owner.port_step, context.edge + SECOND_PORT, workers, workers)
        self._run: Run | None = None
        self.done = self._rank < 0
        """Whether everybody's part is known; at once on workers that have no part in it."""
        self.result: list[Any] = []
        """Everybody's parts, those of the worker of the lowest id first."""

    def progress(self, part: Sequence[Any]) -> bool:
        """Go on; whether it has just been done. :param part: this worker's; of the first call it is taken."""
        if self.done:
            return False
        if self._run is None:
            self._run = Run(
                exchange(self._rank, self._size, list(part), lambda left, right: left + right), self._port, self._rank
            )
        if not self._run.advance():
            return False
        self.result = self._run.result
        self._port.close()
        self.done = True
        return True

    def close(self) -> None:
        """Give the port back. Idempotent."""
        self._port.close()
