"""Reductions: each worker combines what its sources send, then workers combine along ways.

The order of combination depends on the plan only: the batches of a source in their order, the sources of a worker by
index, the workers by id. The reducer must be associative. On streams a result is made at each FLUSH mark, of what came
since the last one.
"""

from __future__ import annotations

import operator
import pickle
import sys
from functools import partial
from functools import reduce as fold
from typing import TYPE_CHECKING, Any, ClassVar

from twister2.spec.batch import Batch, is_array, n_bytes, n_records, records
from twister2.spec.channel import HeaderKind, Item
from twister2.spec.errors import OperatorError
from twister2.spec.tracebacks import short
from twister2_net.combining.reducers import Reducer, combiner_for, ufunc_for
from twister2_net.exchange.algorithms import choose
from twister2_net.exchange.frozen import Frozen
from twister2_net.exchange.hops import Flow, HopOperator
from twister2_net.exchange.lanes import CLOSING, END, LaneOperator
from twister2_net.exchange.ways import Way, reduction
from twister2_net.problems import user_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SMALL = 16 * 1024
"""Bytes of an array that is copied as it goes and as it comes, because a reducer may change it; larger ones stay where
they have arrived, and cannot be changed."""


class Part:
    """A value on its way, one record of its channel; ``rows``: it was combined over the rows of arrays."""

    __slots__ = ("rows", "value")

    def __init__(self, rows: bool, value: Any) -> None:
        self.rows = rows
        self.value = value

    def __len__(self) -> int:
        return 1

    @property
    def nbytes(self) -> int:
        """Size in memory, estimated."""
        return n_bytes(self.value) + sys.getsizeof(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return Part, (self.rows, self.value)

    def packed(self) -> Any:
        """What is sent: arrays go as they are, which pickling would take ten times as long for. One record, too."""
        value = self.value
        if is_array(value) and not value.ndim:
            return self
        if self.rows:
            return value[None] if hasattr(value, "dtype") else self
        return (_own(value),) if is_array(value) else self

    @staticmethod
    def unpacked(packed: Any) -> Part:
        """The part again. A small array may be changed by a reducer, as one that was pickled."""
        if isinstance(packed, Part):
            return packed
        if type(packed) is not tuple:
            return Part(True, packed[0])
        (value,) = packed
        return Part(False, _own(value))


def _own(array: Any) -> Any:
    return array.copy() if array.nbytes < _SMALL else array


class Combining(LaneOperator):
    """Values that are combined by position, not by key."""

    cuts = False

    def prepare(self) -> None:
        self.combine: Reducer = combiner_for(self.options["reducer"], self.label)
        self.ufunc = ufunc_for(self.options["reducer"])
        self.has_initial = "initial" in self.context.options

    def folded(self, have: Part | None, batch: Batch, source: int) -> Part:
        """What a source has given so far, with one more batch."""
        if is_array(batch) and self.ufunc is not None:
            try:
                value = self.ufunc.reduce(batch, axis=0)  # widens integers, as numpy.sum does
            except Exception as error:
                raise user_error(error, "reducer", self.label, source, batch) from error
            return Part(True, value if have is None else self.combined(have.value, value, source))
        rows: Any = batch if isinstance(batch, list) else list(records(batch))
        walk = iter(rows)
        try:
            value = fold(self.combine, walk) if have is None else fold(self.combine, walk, have.value)
        except Exception as error:
            index = len(rows) - operator.length_hint(walk) - 1
            raise user_error(error, "reducer", self.label, source, rows[index]) from error
        return Part(have is not None and have.rows, value)

    def combined(self, left: Any, right: Any, task: int = -1) -> Any:
        """Two values, the left one of lower rank."""
        try:
            return self.combine(left, right)
        except Exception as error:
            raise user_error(error, "reducer", self.label, task, (left, right)) from error

    def join(self, left: Part | None, right: Part | None) -> Part | None:
        """Two parts that may be missing."""
        if left is None or right is None:
            return right if left is None else left
        return Part(left.rows or right.rows, self.combined(left.value, right.value))

    def finished_part(self, whole: Part | None, kind: HeaderKind) -> Part | None:
        """The result, with ``initial``; at the end of a stream only if records came since its last FLUSH mark."""
        if self.has_initial and not (whole is None and self.stream and kind == END):
            return self.join(Part(False, self.options["initial"]), whole)
        return whole

    def share(self, whole: Part, output: int) -> Part:
        """What of a worker's part goes to a rank."""
        return whole

    def delivered(self, value: Part) -> Iterator[tuple[int, Batch]]:
        """The batches of the local targets."""
        batch = value.value[None] if value.rows and hasattr(value.value, "dtype") else [value.value]
        for target in self.local_targets:
            yield target, batch


class Reduction(Combining, HopOperator):
    """Base of the operators that combine along ways."""

    algorithms: ClassVar[Sequence[str]] = ("direct", "tree", "chain")
    loops = True  # one value at a mark

    def prepare(self) -> None:
        super().prepare()
        self.algorithm = choose(self, self.algorithms, "tree", self.config.tree_above)

    def begin(self) -> None:
        super().begin()
        self._frozen = Frozen(self.context.memory, self.label, self.local_targets)

    def layout(self, me: int, sources: list[int], targets: list[int]) -> list[Way]:
        return reduction(self.algorithm, me, sources, targets)

    def take(self, source: int, batch: Batch) -> None:
        if n_records(batch) == 0:
            return
        (flow,) = self._of[~source]
        flow.aligner.active(~source)
        flow.held[~source] = self.folded(flow.held.get(~source), batch, source)

    def push(self, lane: int, target: int, kind: HeaderKind, value: Any = None) -> None:
        super().push(lane, target, kind, value.packed() if type(value) is Part else value)

    def push_last(self, lane: int, target: int, value: Any) -> None:
        super().push_last(lane, target, value.packed() if type(value) is Part else value)

    def came(self, origin: int, value: Any) -> None:
        super().came(origin, Part.unpacked(value))

    def data(self, flow: Flow, origin: int, value: Part) -> None:
        if flow.role == "pass":
            super().data(flow, origin, value)
        else:
            flow.held[origin] = self.join(flow.held.get(origin), value)

    def leaves(self, flow: Flow, kind: HeaderKind, value: Any) -> None:
        closing = kind in CLOSING or kind == END
        if flow.role == "final":
            if kind == HeaderKind.BARRIER:
                self._frozen.keep(0, self._state(flow))
            elif not closing:
                flow.late[:] = [mark for mark in flow.late if kind == HeaderKind.IDLE and mark[0] != kind]
                flow.late.append((kind, value))
                return
            elif self._emit(flow, kind):
                return
        elif flow.role == "up" and closing and self._emit(flow, kind):
            return
        self.out_mark(flow, kind, value)

    def whole(self, flow: Flow, kind: HeaderKind) -> Part | None:
        """What is held of a flow at a mark, combined in the order of its inputs."""
        whole: Part | None = None
        for origin in flow.inputs:
            whole = self.join(whole, flow.held.get(origin))
        return whole

    def _emit(self, flow: Flow, kind: HeaderKind) -> bool:
        """Let go of what is held, at a closing mark or END; whether the mark went with it."""
        whole = self.whole(flow, kind)
        flow.held.clear()
        final = flow.role == "final"
        if final:
            whole = self.finished_part(whole, kind)
        if whole is not None:
            last = kind == END and not flow.late
            out = self.out_last if last else self.out
            for output in flow.outputs:
                out(output, whole if final else self.share(whole, output))
            if last:
                return True
        for mark in flow.late:
            self.out_mark(flow, *mark)
        flow.late.clear()
        return False

    def here(self, value: Part) -> None:
        for target, batch in self.delivered(value):
            self.give(target, -1, batch)

    # -- checkpoints -----------------------------------------------------------------------------------------------

    def _state(self, flow: Flow) -> bytes | None:
        if not flow.held and not flow.late:
            return None
        return pickle.dumps((self.whole(flow, HeaderKind.BARRIER), flow.late), 5)

    def snapshot(self) -> bytes | None:
        final = next((flow for flow in self.flows if flow.role == "final"), None)
        return None if final is None else self._frozen.state(0, partial(self._state, final))

    def receive(self, target: int) -> Item | None:
        item = super().receive(target)
        if item is not None:
            self._frozen.handed(target, item.kind)
        return item

    def restore(self, state: bytes) -> None:
        whole, late = pickle.loads(state)
        for flow in self.flows:
            if flow.role == "final":
                flow.held[flow.inputs[0]] = whole
                flow.late = late

    def close(self) -> None:
        if not self.closed:
            self._frozen.clear()
        super().close()


class Reduce(Reduction):
    """One value, at the only target."""


class Scattering(Combining):
    """Batches of one record per target, combined record by record; result i at target i."""

    def folded(self, have: Part | None, batch: Batch, source: int) -> Part:
        count = len(self.context.targets)
        if n_records(batch) != count:
            raise OperatorError(
                f"{self.label} was given a batch of {n_records(batch)} records",
                why=f"it takes batches of one record for each of its {count} targets",
                remedy=f"send lists of {count} values, or arrays whose first axis is {count} long",
                where=f"{self.label}, task {source}",
                details={"record": short(batch)},
            )
        if is_array(batch) and self.ufunc is not None and (have is None or have.rows):
            return Part(True, batch if have is None else self.combined(have.value, batch, source))
        rows = list(records(batch))
        return Part(False, rows if have is None else self._each(have.value, rows, source))

    def _each(self, left: Any, right: Any, task: int = -1) -> list[Any]:
        return [self.combined(one, other, task) for one, other in zip(left, right, strict=True)]

    def join(self, left: Part | None, right: Part | None) -> Part | None:
        if left is None or right is None:
            return right if left is None else left
        if left.rows and right.rows:
            return Part(True, self.combined(left.value, right.value))
        return Part(False, self._each(left.value, right.value))

    def share(self, whole: Part, output: int) -> Part:
        worker = self.receivers[output]
        rows = [target for target, where in enumerate(self.context.targets) if where == worker]
        return Part(whole.rows, whole.value[rows] if whole.rows else [whole.value[row] for row in rows])

    def finished_part(self, whole: Part | None, kind: HeaderKind) -> Part | None:
        if not self.has_initial or (whole is None and self.stream and kind == END):
            return whole
        initial = self.options["initial"]
        if whole is None:
            return Part(False, [initial] * len(self.local_targets))
        return Part(False, [self.combined(initial, value) for value in whole.value])

    def delivered(self, value: Part) -> Iterator[tuple[int, Batch]]:
        for index, target in enumerate(self.local_targets):
            one = value.value[index]
            yield target, one[None] if value.rows and hasattr(one, "dtype") else [one]


class ReduceScatter(Scattering, Reduction):
    """Each worker sends every other its share."""

    algorithms = ("direct", "ring")  # see ringing.py

    def prepare(self) -> None:
        super().prepare()
        self.algorithm = "direct"
