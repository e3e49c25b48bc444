"""Steps that give a function of the user's a whole partition."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from twister2.graph import walking
from twister2.spec.errors import UserCodeError
from twister2_tset.functions import bound
from twister2_tset.meeting import OUT_RECORDS, Holding, in_batches
from twister2_tset.problems import kind_of, short
from twister2_tset.where import line_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twister2.spec.batch import Batch
    from twister2.spec.tasks import Emit, TaskContext

Gives = Literal["value", "records", "collector"]


class WholePartition(Holding):
    """``function(records)`` for the records of a partition, which are held, on disk when memory gets short.

    :param gives: ``"value"``: it returns one record; ``"records"``: it returns what to walk over for records;
        ``"collector"``: it is called ``function(records, collect)`` and calls ``collect(record)``.
    """

    def __init__(self, function: Callable[..., Any], gives: Gives, step: str) -> None:
        super().__init__()
        self._function = function
        self._gives = gives
        self._step = step

    def open(self, context: TaskContext) -> None:
        """Give the function its context, when it asks for it."""
        super().open(context)
        self._function = bound(self._function, context)

    def finish(self, emit: Emit) -> Iterator[Batch]:
        """What becomes of the partition."""
        if self._gives == "collector":
            return self._collected()
        return super().finish(emit)

    def results(self) -> Iterator[Any]:
        """See :meth:`Holding.results`."""
        found = self._function(self.spool().records())
        if self._gives == "value":
            yield found
            return
        if isinstance(found, (str, bytes)) or not hasattr(type(found), "__iter__"):
            raise UserCodeError(
                f"the function of {self._step} returned {short(found)}, {kind_of(found)}",
                why=f"{self._step} takes all records of what the function returns",
                remedy="return a list or a generator of records; for one value per partition use compute",
                where=line_of(self._function),
            )
        yield from found

    def _collected(self) -> Iterator[Batch]:
        """All that was collected, held until the function has returned."""
        out = self.spool("results")
        waiting: list[Any] = []

        def collect(record: Any) -> None:
            waiting.append(record)
            if len(waiting) >= OUT_RECORDS:
                out.add(waiting.copy())
                waiting.clear()

        self._function(self.spool().records(), collect)
        out.add(waiting)
        yield from out.batches()


class EachGroup(Holding):
    """``function(key, values)`` for every group of a keyed_gather, which come as they are: none is held longer."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self._function = function

    def open(self, context: TaskContext) -> None:
        """Give the function its context, when it asks for it."""
        super().open(context)
        self._function = bound(self._function, context)

    def process(self, batch: Batch, emit: Emit, edge: str) -> None:
        """Call it for the groups of a batch."""
        with walking(batch) as walk:
            found = [self._function(key, values) for key, values in walk]
        emit(found)

    def results(self) -> Iterator[Any]:
        """Nothing is held."""
        return iter(())


__all__ = ["EachGroup", "WholePartition", "in_batches"]
