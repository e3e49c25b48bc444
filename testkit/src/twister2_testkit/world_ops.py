"""Simple operators for tests of executors, named ``world.<operator>``: they route batches and align marks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from twister2.spec.batch import Batch, records
from twister2.spec.channel import HeaderKind, Item
from twister2.spec.errors import OperatorError
from twister2.spec.hashing import task_of_key
from twister2.spec.ops import Operator, OperatorContext, OperatorInfo, Operators, OptionInfo

if TYPE_CHECKING:
    from twister2.spec.network import Delivery, EdgeCounters, Step

Route = Callable[[Batch, int, int], Mapping[int, Batch]]
"""``route(batch, source, number of targets)`` gives the batch of each target."""


def _direct(batch: Batch, source: int, n_targets: int) -> Mapping[int, Batch]:
    return {source: batch}


def _gather(batch: Batch, source: int, n_targets: int) -> Mapping[int, Batch]:
    return {0: batch}


def _broadcast(batch: Batch, source: int, n_targets: int) -> Mapping[int, Batch]:
    return dict.fromkeys(range(n_targets), batch)


def _keyed(batch: Batch, source: int, n_targets: int) -> Mapping[int, Batch]:
    parts: dict[int, list[Any]] = {}
    for record in records(batch):
        parts.setdefault(task_of_key(record[0], n_targets), []).append(record)
    return parts


_ROUTES: Mapping[str, tuple[OperatorInfo, Route]] = {
    info.name: (info, route)
    for info, route in (
        (OperatorInfo("direct", "task k to task k", "one_to_one"), _direct),
        (OperatorInfo("gather", "everything to task 0", "many_to_one"), _gather),
        (OperatorInfo("broadcast", "everything to all", "one_to_many"), _broadcast),
        (
            OperatorInfo(
                "keyed", "pairs by key", "many_to_many", keyed=True, options={"note": OptionInfo("ignored text")}
            ),
            _keyed,
        ),
    )
}


class WorldOperators(Operators):
    """The catalogue. :ivar made: contexts of all operators made so far."""

    def __init__(self) -> None:
        self.made: list[OperatorContext] = []

    def catalog(self) -> Mapping[str, OperatorInfo]:
        """All operators."""
        return {name: info for name, (info, _) in _ROUTES.items()}

    def create(self, context: OperatorContext) -> Operator:
        """Make one end."""
        if context.name not in _ROUTES:
            raise OperatorError(f"no operator {context.name!r}", why="not in the catalogue", remedy="use another")
        self.made.append(context)
        return RoutingOperator(context, *_ROUTES[context.name])


class RoutingOperator(Operator):
    """Sends each batch where its route says, at once or not at all."""

    def __init__(self, context: OperatorContext, info: OperatorInfo, route: Route) -> None:
        self.info = info
        self._context, self._route = context, route
        self.closed = False
        self._begin(context.step)

    def _begin(self, step: Step) -> None:
        context = self._context
        self._port = context.network.open_port(step, context.edge, context.sources, context.targets)
        self._unfinished = set(context.local_sources)
        self._inputs = {target: _Alignment(len(context.sources)) for target in context.local_targets}

    def send(self, source: int, batch: Batch) -> bool:
        """Send, unless any channel it needs has no credit."""
        assert not self.closed, "send on a closed operator"
        assert source in self._unfinished, "send after finish"
        parts = self._route(batch, source, len(self._context.targets))
        if not all(self._port.can_send(source, target) for target in parts):
            return False
        for target, part in parts.items():
            self._port.send(source, target, HeaderKind.DATA, part)
        return True

    def _targets(self, source: int) -> list[int]:
        return [source] if self.info.shape == "one_to_one" else list(range(len(self._context.targets)))

    def mark(self, source: int, kind: HeaderKind, value: Any = None) -> None:
        """Send a mark to every target."""
        for target in self._targets(source):
            self._port.send(source, target, kind, value)

    def finish(self, source: int) -> None:
        """Send END to every target."""
        if source in self._unfinished:
            self._unfinished.remove(source)
            self.mark(source, HeaderKind.END)

    def progress(self) -> bool:
        """Take in what came."""
        moved = False
        one_to_one = self.info.shape == "one_to_one"
        for target, alignment in self._inputs.items():
            alignment.wanted = 1 if one_to_one else len(self._context.sources)
            while len(alignment.ready) < 2:
                delivery = self._port.receive(target, alignment.held)
                if delivery is None:
                    break
                alignment.take(delivery)
                moved = True
        return moved

    def receive(self, target: int) -> Item | None:
        """The next item."""
        alignment = self._inputs[target]
        if not alignment.ready:
            return None
        item = alignment.ready.popleft()
        alignment.ended = alignment.ended or item.kind is HeaderKind.END
        return item

    @property
    def is_complete(self) -> bool:
        """Whether everything has ended here."""
        return not self._unfinished and all(alignment.ended for alignment in self._inputs.values())

    def reset(self, step: Step) -> None:
        """Begin another run."""
        assert self.is_complete, "reset of an operator that is not complete"
        self._begin(step)

    def close(self) -> None:
        """Close for good."""
        self.closed = True
        self._port.close()

    @property
    def counters(self) -> EdgeCounters:
        """Counters of the port."""
        return self._port.counters


class _Alignment:
    """What came for one target: data as it comes, a barrier or END once it came from all sources."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.ready: deque[Item] = deque()
        self.ended = False
        self.held: set[int] = set()
        """Sources that have sent a barrier which others have not: nothing is taken from them meanwhile."""
        self._ends = 0
        self._number: Any = None

    def take(self, delivery: Delivery) -> None:
        if delivery.kind is HeaderKind.DATA:
            self.ready.append(Item(delivery.kind, delivery.source, delivery.target, delivery.value))
            return
        if delivery.kind is HeaderKind.END:
            self._ends += 1
        else:
            self.held.add(delivery.source)
            self._number = delivery.value
        if self.held and len(self.held) + self._ends == self.wanted:
            self.held.clear()
            self.ready.append(Item(HeaderKind.BARRIER, -1, delivery.target, self._number))
        if self._ends == self.wanted:
            self.ready.append(Item(HeaderKind.END, -1, delivery.target))
