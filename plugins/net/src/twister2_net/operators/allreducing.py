"""allreduce: along the ways, or round a ring when arrays turn out to be large.

No worker knows the sizes of others, and asking before anything is sent would cost small values a latency. So a worker
whose own part is large sends a *notice* in its place, when its sources have finished: the form of the array. Notices
are combined along the ways as parts are, and all workers get the same: a result, or a notice. Then what was held back
is combined over a second port: round a ring when it is all there is and of one form, up and down a tree when not.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import attrs

from twister2.spec.network import EdgeCounters
from twister2.spec.patterns import Run, reduce_and_broadcast
from twister2.spec.reducers import name_on_arrays
from twister2_net.exchange.agreeing import SECOND_PORT
from twister2_net.exchange.lanes import END, workers_of
from twister2_net.operators.reducing import Part, Reduction
from twister2_net.operators.ringing import Cutting

if TYPE_CHECKING:
    from twister2.spec.channel import HeaderKind
    from twister2.spec.network import Port
    from twister2_net.exchange.hops import Flow

_FEW = 2
"""Workers up to which each sends as much directly as round a ring."""


class Notice(Part):
    """Stands for large parts that are held back.

    :ivar form: shape and dtype of all of them; None where they differ, or where there are small parts as well.
    :ivar value: the small parts, combined.
    """

    __slots__ = ("form",)

    def __init__(self, form: Any, value: Part | None) -> None:
        super().__init__(False, value)
        self.form = form

    def __reduce__(self) -> tuple[Any, ...]:
        return Notice, (self.form, self.value)


class Allreduce(Cutting, Reduction):
    """One value, at every target."""

    algorithms = (*Reduction.algorithms, "ring")  # that option is ringing.RingAllreduce

    def prepare(self) -> None:
        super().prepare()
        workers = workers_of(self.context.targets)
        self._by_size = (
            not self.stream
            and not self.context.options.get("algorithm")
            and name_on_arrays(self.options["reducer"]) != ""  # element by element, and in any order
            and len(workers) > _FEW
            and workers == workers_of(self.context.sources)
        )

    def begin(self) -> None:
        super().begin()
        self._mine: Part | None = None
        self._notice: Notice | None = None
        self._second: Port | None = None
        self._run: Run | None = None

    # -- notices ---------------------------------------------------------------------------------------------------

    def whole(self, flow: Flow, kind: HeaderKind) -> Part | None:
        local = [origin for origin in flow.inputs if origin < 0] if self._by_size and kind == END else []
        if local:
            mine: Part | None = None
            for origin in local:
                mine = self.join(mine, flow.held.pop(origin, None))
            flow.held[local[0]] = self._noted(mine)
        return super().whole(flow, kind)

    def _noted(self, mine: Part | None) -> Part | None:
        """What is sent for the part of this worker's sources."""
        import numpy

        value = None if mine is None else mine.value
        if type(value) is not numpy.ndarray or not value.ndim or value.nbytes < self.config.ring_bytes:
            return mine
        if value.dtype.kind not in "biufcmM":  # sums of text and of objects are not the same in any order
            return mine
        self._mine = mine
        return Notice((value.shape, value.dtype.str), None)

    def join(self, left: Part | None, right: Part | None) -> Part | None:
        if left is None or right is None or not (isinstance(left, Notice) or isinstance(right, Notice)):
            return super().join(left, right)
        forms = [part.form if isinstance(part, Notice) else None for part in (left, right)]
        small = [part.value if isinstance(part, Notice) else part for part in (left, right)]
        return Notice(forms[0] if forms[0] == forms[1] else None, super().join(*small))

    def finished_part(self, whole: Part | None, kind: HeaderKind) -> Part | None:
        return whole if isinstance(whole, Notice) else super().finished_part(whole, kind)

    def here(self, value: Part) -> None:
        if isinstance(value, Notice):
            self._notice = value
        else:
            super().here(value)

    def _mark_here(self, kind: HeaderKind, value: Any) -> None:
        if self._notice is None or kind != END:  # else it comes behind the result
            super()._mark_here(kind, value)

    # -- what was held back ----------------------------------------------------------------------------------------

    def progress(self) -> bool:
        moved = super().progress()
        return self._combine_large() or moved

    def _combine_large(self) -> bool:
        notice = self._notice
        if notice is None or self.closed or (self._run is not None and self._run.done):
            return False
        if self._run is None or self._second is None:
            rank, size = self.my_senders[0], len(self.senders)
            if notice.form is not None:
                steps = self.steps(rank, size, self._mine)
            else:
                steps = reduce_and_broadcast(rank, size, self._mine, self.join)
            self._mine = None
            step, edge = self.port_step, self.context.edge + SECOND_PORT
            self._second = self.context.network.open_port(step, edge, self.senders, self.receivers)
            self._run = Run(steps, self._second, rank)
        if not self._run.advance():
            return False
        self._second.close()
        result = self.finished_part(self.join(notice.value, self._run.result), END)
        if result is not None:
            super().here(result)
        super()._mark_here(END, None)
        return True

    @property
    def silent_workers(self) -> list[int]:
        wants = self._run.wants if self._run is not None else None
        return super().silent_workers if wants is None else self._others([wants])

    @property
    def counters(self) -> EdgeCounters:
        first = super().counters
        if self._second is None:
            return first
        return EdgeCounters(*map(operator.add, attrs.astuple(first), attrs.astuple(self._second.counters)))

    def close(self) -> None:
        if not self.closed:
            self._mine = self._run = None
            if self._second is not None:
                self._second.close()
        super().close()
