"""cross: every record of the left with every record of the right.

One side goes to all targets, the other stays where it is: the smaller one travels. Which it is is known once all
sources have finished, so until then what they send is held where it was made; both sides go to disk when memory gets
short.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.spec.batch import Batch, n_bytes, n_records, records
from twister2.spec.errors import OperatorError
from twister2.spec.tracebacks import short
from twister2_net.exchange.aggregating import AggregatingOperator
from twister2_net.exchange.agreeing import Agreement
from twister2_net.exchange.lanes import DATA, END
from twister2_net.exchange.tasks import TaskOperator
from twister2_net.problems import wrong_option
from twister2_net.spilling.queues import HeldBatches, pieces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twister2.spec.channel import HeaderKind

_SIDES = ("left", "right")
BROADCAST = ("auto", *_SIDES)


class Cross(TaskOperator, AggregatingOperator):
    """Pairs ``(left, right)``."""

    def prepare(self) -> None:
        if len(self.context.inputs) != 2:
            raise OperatorError(
                f"{self.label} has {len(self.context.inputs) or 1} inputs",
                why="a cross has two: left and right",
                remedy="connect two vertices to the edge, or say how many sources each input has",
                where=self.label,
            )
        side = self.options["broadcast"]
        if side not in BROADCAST:
            raise wrong_option(
                self.label, "broadcast", f"it knows no {short(side)}", f"give one of {', '.join(BROADCAST)}"
            )
        if side == "auto" and self.stream:
            raise wrong_option(
                self.label, "broadcast", "which side of a stream is smaller is never known", "give left or right"
            )

    def begin(self) -> None:
        super().begin()
        memory = self.context.memory
        auto = self.options["broadcast"] == "auto"
        self._side = -1 if auto else _SIDES.index(self.options["broadcast"])
        self._agreement = Agreement(self) if auto else None
        self._sizes = [0, 0]
        self._open = set(self.local_sources)
        self._unsent = set(self.local_sources)
        self._waits: HeldBatches[tuple[int, Batch]] = HeldBatches(memory, f"{self.label}: held until all have finished")
        self._held = {target: self._empty(target) for target in self.local_targets}
        self._emitting: list[list[HeldBatches[Batch]]] = []

    def _empty(self, target: int) -> list[HeldBatches[Batch]]:
        memory = self.context.memory
        return [HeldBatches(memory, f"{self.label}: {side} of task {target}") for side in _SIDES]

    # -- sending side ----------------------------------------------------------------------------------------------

    def take(self, source: int, batch: Batch) -> None:
        if not n_records(batch):
            return
        if self._side < 0:
            self._sizes[self.context.input_of(source)] += n_bytes(batch)
            self._waits.put((source, batch), n_bytes(batch))
        else:
            self._send(source, batch)

    def _send(self, source: int, batch: Batch) -> None:
        side = self.context.input_of(source)
        n = len(self.context.targets)
        if side == self._side:
            for target in range(n):
                self.push(source, target, DATA, batch)
        else:
            first = sum(self.context.inputs[:side])
            self.push(source, (source - first) % n, DATA, batch)

    def finished(self, source: int) -> None:
        self._open.discard(source)
        if self._agreement is None:
            super().finished(source)
            self._unsent.discard(source)

    def progress(self) -> bool:
        moved = super().progress()
        if self._agreement is None or self._open:
            return moved
        if self._agreement.progress([tuple(self._sizes)]):
            left, right = (sum(sizes[side] for sizes in self._agreement.result) for side in range(2))
            self._side = 0 if left < right else 1
            moved = True
        return (self._send_on() or moved) if self._agreement.done else moved

    def _send_on(self) -> bool:
        """Send what was held, as far as there is credit."""
        moved = False
        while self._waits and not self.is_waiting:
            self._send(*self._waits.get())
            moved = True
        if not self._waits:
            for source in sorted(self._unsent):
                self.push_all(source, END)
                moved = True
            self._unsent.clear()
        return moved

    @property
    def is_complete(self) -> bool:
        return not self._unsent and super().is_complete

    # -- receiving side --------------------------------------------------------------------------------------------

    def gathered(self, lane: int, source: int, value: Any) -> None:
        line = self._held[lane][self.context.input_of(source)]
        for piece in pieces(self.context.memory, value):
            line.put(piece, n_bytes(piece))

    def emit(self, lane: int, kind: HeaderKind) -> Iterator[Batch]:
        lines, self._held[lane] = self._held[lane], self._empty(lane)
        self._emitting.append(lines)
        return self._products(lines)

    def _products(self, lines: list[HeldBatches[Batch]]) -> Iterator[Batch]:
        left, right = lines
        most = self.config.batch_records
        for lefts in left.peek() if len(right) else ():
            rows = list(records(lefts))
            for rights in right.peek():
                others = list(records(rights))
                pairs: list[Any] = []
                for one in rows:
                    for start in range(0, len(others), most):
                        pairs += [(one, other) for other in others[start : start + most]]
                        if len(pairs) >= most:
                            yield pairs
                            pairs = []
                if pairs:
                    yield pairs
        for line in lines:
            line.close()
        self._emitting.remove(lines)

    # -- checkpoints -----------------------------------------------------------------------------------------------

    def state(self, lane: int) -> Any:
        lines = self._held[lane]
        return [list(line.peek()) for line in lines] if any(map(len, lines)) else None

    def take_back(self, lane: int, state: Any) -> None:
        for line, batches in zip(self._held[lane], state, strict=True):
            for batch in batches:
                line.put(batch, n_bytes(batch))

    def close(self) -> None:
        if not self.closed:
            self._waits.close()
            if self._agreement is not None:
                self._agreement.close()
            for lines in [*self._held.values(), *self._emitting]:
                for line in lines:
                    line.close()
        super().close()
