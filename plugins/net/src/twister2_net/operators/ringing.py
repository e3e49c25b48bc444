"""allreduce and reduce_scatter round a ring of the workers, for large arrays: all links carry the same.

Arrays are cut into one piece per worker. A piece goes round and is combined on the way; of an allreduce, the pieces
that are complete go round once more. It happens when every source has finished, so there is none of it on streams.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from twister2.spec.batch import is_array, n_records
from twister2.spec.channel import Item
from twister2.spec.errors import OperatorError
from twister2.spec.patterns import Run, ring_allgather, ring_reduce_scatter
from twister2_net.exchange.lanes import DATA, END, workers_of
from twister2_net.operators.reducing import Combining, Part, Scattering
from twister2_net.problems import wrong_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2.spec.batch import Batch
    from twister2.spec.channel import HeaderKind
    from twister2.spec.patterns import Steps

_OTHERS = "give another algorithm, or none"


class Ring(Combining):
    """Base. Lanes are the workers that hold a source or a target."""

    def prepare(self) -> None:
        super().prepare()
        if self.stream:
            raise wrong_option(self.label, "algorithm", "ring combines once, when all sources have finished", _OTHERS)

    @abstractmethod
    def steps(self, rank: int, size: int, whole: Part | None) -> Steps:
        """What this worker does with the part of its sources; gives the result at its targets."""

    def lanes(self) -> tuple[Sequence[int], Sequence[int]]:
        workers = workers_of([*self.context.sources, *self.context.targets])
        return workers, workers

    def begin(self) -> None:
        super().begin()
        self._held: dict[int, Part] = {}
        self._run: Run | None = None
        self._results: dict[int, list[Item]] = {target: [] for target in self.local_targets}
        self._over = not self.my_senders

    def take(self, source: int, batch: Batch) -> None:
        if n_records(batch):
            self._held[source] = self.folded(self._held.get(source), batch, source)

    def marked(self, source: int, kind: HeaderKind, value: Any) -> None:
        raise OperatorError(
            f"{self.label} was given a {kind.name} mark by source {source}",
            why="the algorithm ring combines once, when all sources have finished",
            remedy=_OTHERS,
            where=f"{self.label}, task {source}",
        )

    def progress(self) -> bool:
        if self._over or self.closed or not self.sources_finished:
            return False
        if self._run is None:
            whole: Part | None = None
            for source in sorted(self._held):
                whole = self.join(whole, self._held.pop(source))
            rank = self.my_senders[0]
            self._run = Run(self.steps(rank, len(self.senders), whole), self.port, rank)
        if not self._run.advance():
            return False
        self._over = True
        result = self.finished_part(self._run.result, END)
        if result is not None:
            for target, batch in self.delivered(result):
                self._results[target].append(Item(DATA, -1, target, batch))
        for target, items in self._results.items():
            items.append(Item(END, -1, target, None))
        return True

    def receive(self, target: int) -> Item | None:
        if self.closed or not self._results[target]:
            return None
        item = self._results[target].pop(0)
        if item.kind == END:
            self._ended.add(target)
        return item

    @property
    def silent_workers(self) -> list[int]:
        wants = self._run.wants if self._run is not None else None
        return [] if wants is None else self._others([wants])

    @property
    def is_complete(self) -> bool:
        return self._over and super().is_complete

    def close(self) -> None:
        if not self.closed:
            self._held.clear()
            self._run = None
        super().close()


class _Piece:
    """A piece of an array, or a whole value that cannot be cut; ``form`` is that of what it was cut from."""

    __slots__ = ("form", "part")

    def __init__(self, form: Any, part: Part) -> None:
        self.form = form
        self.part = part

    def __reduce__(self) -> tuple[Any, ...]:
        return _Piece, (self.form, self.part)


class Cutting(Combining):
    """An allreduce of arrays of one form on all workers, cut into pieces; other values go round whole."""

    def steps(self, rank: int, size: int, whole: Part | None) -> Steps:
        """What this worker does with the part of its sources; gives the result."""
        mine = yield from ring_reduce_scatter(rank, size, self._cut(whole, size), self._joined)
        pieces = yield from ring_allgather(rank, size, mine)
        return self._assembled([piece for piece in pieces if piece is not None])

    def _cut(self, whole: Part | None, size: int) -> list[_Piece | None]:
        if whole is None:
            return [None] * size
        value = whole.value
        if not is_array(value) or not value.ndim:
            return [_Piece(None, whole)] + [None] * (size - 1)
        import numpy

        pieces = numpy.array_split(value.reshape(-1), size)
        return [_Piece((value.shape, value.dtype.str), Part(whole.rows, piece)) for piece in pieces]

    def _joined(self, left: _Piece | None, right: _Piece | None) -> _Piece | None:
        if left is None or right is None:
            return right if left is None else left
        if left.form != right.form:
            forms = [f"an array of {form[1]} with shape {form[0]}" if form else "a value that is no array"
                     for form in (left.form, right.form)]  # fmt: skip
            raise OperatorError(
                f"{self.label} cannot combine {forms[0]} and {forms[1]}",
                why="the algorithm ring cuts arrays, which must have one shape and dtype on all workers",
                remedy=f"give such arrays, or {_OTHERS}",
                where=self.label,
            )
        part = self.join(left.part, right.part)
        assert part is not None
        return _Piece(left.form, part)

    def _assembled(self, pieces: list[_Piece]) -> Part | None:
        if not pieces:
            return None
        first = pieces[0]
        if first.form is None:
            return first.part
        import numpy

        whole = numpy.concatenate([piece.part.value for piece in pieces])
        return Part(any(piece.part.rows for piece in pieces), whole.reshape(first.form[0]))


class RingAllreduce(Cutting, Ring):
    """The option ``ring``: whatever the sizes are."""

    def prepare(self) -> None:
        super().prepare()
        if self.ufunc is None:
            why = "ring cuts arrays into pieces, which a function of two values may not allow"
            raise wrong_option(self.label, "algorithm", why, f"name the reducer, give a numpy ufunc, or {_OTHERS}")


class RingReduceScatter(Scattering, Ring):
    """The share of each worker goes round, and ends there."""

    def steps(self, rank: int, size: int, whole: Part | None) -> Steps:
        shares = [None if whole is None else self.share(whole, output) for output in range(size)]
        return ring_reduce_scatter(rank, size, shares, self.join)
