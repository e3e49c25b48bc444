"""reduce and allreduce: each worker combines what its sources send, then the workers combine along a tree.

The order of combination depends on the plan only: the batches of a source in their order, the sources of a worker by
index, the workers by id. The reducer must be associative and commutative.
"""

from __future__ import annotations

import operator
import pickle
from collections import deque
from functools import reduce as fold
from typing import TYPE_CHECKING, Any

from twister2.spec.batch import Batch, is_array, n_records, records
from twister2.spec.channel import HeaderKind, Item
from twister2.spec.errors import OperatorError
from twister2_net.align import Aligner
from twister2_net.base import DATA, END, LaneOperator, workers_of
from twister2_net.problems import user_error
from twister2_net.reducers import Reducer, combiner_for, ufunc_for
from twister2_net.trees import Collective, Steps, allreduce_for, reduce_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2.spec.network import Delivery


class Part:
    """A value on its way up the tree; ``rows``: it was combined over the rows of arrays."""

    __slots__ = ("rows", "value")

    def __init__(self, rows: bool, value: Any) -> None:
        self.rows = rows
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return Part, (self.rows, self.value)


class Reduction(LaneOperator):
    """Base of reduce and allreduce. Lanes are the workers that hold a source or a target."""

    def prepare(self) -> None:
        self.combine: Reducer = combiner_for(self.options["reducer"], self.label)
        self.ufunc = ufunc_for(self.options["reducer"])
        self.has_initial = "initial" in self.context.options

    def lanes(self) -> tuple[Sequence[int], Sequence[int]]:
        workers = workers_of([*self.context.sources, *self.context.targets])
        return workers, workers

    def begin(self) -> None:
        self._sums: dict[int, Part] = {}
        self._gate = Aligner(self.local_sources)
        self._marks = Aligner(range(len(self.senders)))
        self._tree: Collective | None = None
        self.inbox: deque[Delivery] = deque()
        """Values of other workers that the tree has not asked for yet."""
        self._items: list[Item] = []
        self._taken = dict.fromkeys(self.local_targets, 0)
        self._over = not self.my_senders
        if self.my_senders and not self.local_sources:
            self._pass_marks()

    # -- sending side ----------------------------------------------------------------------------------------------

    def send(self, source: int, batch: Batch) -> bool:
        if source in self._gate.blocked:
            return False
        return super().send(source, batch)

    def take(self, source: int, batch: Batch) -> None:
        if n_records(batch) == 0:
            return
        have = self._sums.get(source)
        if is_array(batch) and self.ufunc is not None:
            value = self.ufunc.reduce(batch, axis=0)
            value = value if have is None else self._combined(have.value, value, source)
            self._sums[source] = Part(True, value)
            return
        rows: Any = batch if isinstance(batch, list) else list(records(batch))
        walk = iter(rows)
        try:
            value = fold(self.combine, walk) if have is None else fold(self.combine, walk, have.value)
        except Exception as error:
            index = len(rows) - operator.length_hint(walk) - 1
            raise user_error(error, "reducer", self.label, source, rows[index]) from error
        self._sums[source] = Part(have is not None and have.rows, value)

    def _combined(self, left: Any, right: Any, task: int) -> Any:
        try:
            return self.combine(left, right)
        except Exception as error:
            raise user_error(error, "reducer", self.label, task, (left, right)) from error

    def _join(self, left: Part | None, right: Part | None) -> Part | None:
        if left is None or right is None:
            return right if left is None else left
        return Part(left.rows or right.rows, self._combined(left.value, right.value, -1))

    def marked(self, source: int, kind: HeaderKind, value: Any) -> None:
        self._gate.mark(source, kind, value)
        self._pass_marks()

    def finished(self, source: int) -> None:
        self._gate.mark(source, END, None)
        self._pass_marks()

    def _pass_marks(self) -> None:
        while self._gate.ready:
            kind, value = self._gate.ready.popleft()
            self.push_all(self.my_senders[0], kind, value)
            if kind == END:
                mine: Part | None = None
                for source in sorted(self._sums):
                    mine = self._join(mine, self._sums[source])
                self._sums.clear()
                lane = self.my_senders[0]
                self._tree = Collective(self.steps(lane, len(self.senders), mine), _TreePort(self), lane)

    def steps(self, rank: int, size: int, mine: Part | None) -> Steps:
        """The algorithm between the workers."""
        return allreduce_for(size)(rank, size, mine, self._join)

    # -- receiving side --------------------------------------------------------------------------------------------

    def progress(self) -> bool:
        moved = self.pump()
        return self._absorb() or moved

    def _absorb(self) -> bool:
        """Take in what came, let the tree go on, hand out marks and the result; whether anything was done."""
        if self._over or not self.my_receivers:
            return False
        moved = self._pull()
        tree = self._tree
        if tree is not None and not tree.done:
            tree.advance()
        marks = self._marks.ready
        while marks and marks[0][0] != END:
            self._items.append(Item(marks[0][0], -1, -1, marks[0][1]))
            marks.popleft()
        if tree is not None and tree.done and marks:
            self._over = True
            self._finish(tree.result)
        return moved or self._over

    def _pull(self) -> bool:
        lane = self.my_receivers[0]
        moved = False
        while (delivery := self.port.receive(lane)) is not None:
            moved = True
            if delivery.kind == DATA:
                self.inbox.append(delivery)
            else:
                self._marks.mark(delivery.source, delivery.kind, delivery.value)
        return moved

    def _finish(self, result: Part | None) -> None:
        if self.local_targets:
            value = self._result(result)
            if value is not None:
                self._items.append(Item(DATA, -1, -1, value))
            self._items.append(Item(END, -1, -1))

    def _result(self, result: Part | None) -> Batch | None:
        if self.has_initial:
            result = self._join(Part(False, self.options["initial"]), result)
        if result is None:
            return None
        return result.value[None] if result.rows and hasattr(result.value, "dtype") else [result.value]

    def receive(self, target: int) -> Item | None:
        if self.closed:
            return None
        position = self._taken[target]
        if position == len(self._items):
            self._absorb()
            if position == len(self._items):
                return None
        item = self._items[position]
        self._taken[target] = position + 1
        if item.kind == END:
            self._ended.add(target)
        return Item(item.kind, -1, target, item.value)

    @property
    def is_complete(self) -> bool:
        return self._over and super().is_complete

    def snapshot(self) -> bytes | None:
        if not self._sums:
            return None
        return pickle.dumps({source: (part.rows, part.value) for source, part in self._sums.items()}, 5)

    def restore(self, state: bytes) -> None:
        self._sums = {source: Part(*parts) for source, parts in pickle.loads(state).items()}


class _TreePort:
    """The operator's port as a tree sees it: data only, never refused (a tree sends each worker a message or two)."""

    __slots__ = ("_operator",)

    def __init__(self, owner: Reduction) -> None:
        self._operator = owner

    def send(self, source: int, target: int, kind: int, value: Any) -> bool:
        self._operator.push(source, target, DATA, value)
        return True

    def receive(self, target: int) -> Delivery | None:
        inbox = self._operator.inbox
        return inbox.popleft() if inbox else None


class Allreduce(Reduction):
    """One value, at every target."""


class Reduce(Reduction):
    """One value, at the only target."""

    def prepare(self) -> None:
        super().prepare()
        if len(self.context.targets) != 1:
            raise OperatorError(
                f"{self.label} has {len(self.context.targets)} targets",
                why="reduce brings one value to one task",
                remedy="give the target a parallelism of 1, or use allreduce",
            )

    def steps(self, rank: int, size: int, mine: Part | None) -> Steps:
        root = list(self.senders).index(self.context.targets[0])
        return reduce_for(size)(rank, size, mine, self._join, root)
