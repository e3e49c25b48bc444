"""By a function or an object of the user's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.spec.batch import Batch, is_arrow, records
from twister2.spec.errors import OperatorError
from twister2.spec.tracebacks import short
from twister2_net.problems import user_error
from twister2_net.selectors.base import Selector

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Custom(Selector):
    """By a function ``partitioner(record, n_targets) -> int`` of the user's."""

    def __init__(self, n: int, label: str, task: int, function: Callable[[Any, int], int]) -> None:
        super().__init__(n, label, task)
        self.function = function

    def assign(self, batch: Batch) -> Sequence[int]:
        n, function = self.n, self.function
        return self._each(batch, lambda record: function(record, n))

    def _each(self, batch: Batch, choose: Callable[[Any], Any]) -> list[int]:
        n = self.n
        targets = []
        for record in records(batch):
            try:
                target = choose(record)
            except Exception as error:
                raise user_error(error, "partitioner", self.label, self.task, record) from error
            if type(target) is not int:
                target = self._as_index(target, record)
            if not 0 <= target < n:
                raise self._wrong(target, record, f"there are {n} targets")
            targets.append(target)
        return targets

    def _as_index(self, target: Any, record: Any) -> int:
        if isinstance(target, bool) or not hasattr(target, "__index__"):
            raise self._wrong(target, record, f"a {type(target).__name__} is no index")
        return int(target)

    def _wrong(self, target: Any, record: Any, why: str) -> OperatorError:
        return OperatorError(
            f"the partitioner of {self.label} returned {short(target)} for {short(record)}",
            why=why,
            remedy=f"return an int from 0 to {self.n - 1}",
            where=f"{self.label}, task {self.task}",
            details={"record": short(record)},
        )


class TwoPhase(Custom):
    """By an object of the user's with ``prepare``, ``next`` and ``commit``.

    ``prepare(n_targets, source)`` is called once for each local source and returns the object that chooses for it
    (None: the object itself); ``next(record) -> int`` for every record of a batch, and ``commit()`` once the batch was
    taken. A batch that is refused for lack of room is not looked at: it is offered again, and begins where the last one
    that was committed ended.
    """

    def __init__(self, n: int, label: str, task: int, chooser: Any) -> None:
        super().__init__(n, label, task, chooser.next)
        try:
            self._chooser = chooser.prepare(n, task) or chooser
        except Exception as error:
            raise user_error(error, "partitioner's prepare", label, task, n) from error

    def assign(self, batch: Batch) -> Sequence[int]:
        targets = self._each(batch, self._chooser.next)
        try:
            self._chooser.commit()
        except Exception as error:
            raise user_error(error, "partitioner's commit", self.label, self.task, len(targets)) from error
        return targets


class OfRecords(Selector):
    """One of the user's, where pairs were made of records by the option ``key``: it is given the records."""

    def __init__(self, chosen: Selector) -> None:
        super().__init__(chosen.n, chosen.label, chosen.task)
        self._chosen = chosen

    def assign(self, batch: Batch) -> Sequence[int]:
        return self._chosen.assign(batch if is_arrow(batch) else [record for _, record in batch])


def is_two_phase(partitioner: Any) -> bool:
    """Whether a partitioner is an object with prepare, next and commit."""
    return all(callable(getattr(partitioner, name, None)) for name in ("prepare", "next", "commit"))
