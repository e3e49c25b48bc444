"""Communication patterns of collectives, each a generator that says what one rank sends and what it waits for.

A generator yields ``(rank, value)`` to send and ``rank`` (an int) to receive from it, or :data:`ANY` to receive
``(rank, value)`` from whoever comes first, and returns this rank's result. It knows
nothing of networks: :class:`Run` drives it over a port, without ever waiting. Values are combined in the order of
ranks, whatever the number of members and the root: a function that is associative is enough, and all members get the
same bits in every run. Sources: R. Thakur, R. Rabenseifner, W. Gropp, "Optimization of Collective Communication
Operations in MPICH", 2005 (recursive doubling, binomial trees, pairwise exchange); W. D. Hillis, G. L. Steele, "Data
Parallel Algorithms", 1986 (scan).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from twister2.spec.channel import HeaderKind

if TYPE_CHECKING:
    from twister2.spec.network import Port

Steps: TypeAlias = Generator[Any, Any, Any]
Combine: TypeAlias = Callable[[Any, Any], Any]

ANY: Final = -1
"""Yielded to receive from any rank."""

FEW: Final = 3
"""Up to so many members, everybody talking to everybody (or to the root) is as fast as a tree."""

_DATA = HeaderKind.DATA


# -- reductions ------------------------------------------------------------------------------------------------------


def exchange(rank: int, size: int, value: Any, combine: Combine) -> Steps:
    """Allreduce: everybody sends to everybody; one latency, ``size * (size - 1)`` messages."""
    for other in range(size):
        if other != rank:
            yield other, value
    result = value if rank == 0 else (yield 0)
    for other in range(1, size):
        part = value if other == rank else (yield other)
        result = combine(result, part)
    return result


def recursive_doubling(rank: int, size: int, value: Any, combine: Combine) -> Steps:
    """Allreduce: pairs at growing distance swap what they have; log2(size) latencies.

    Beyond a power of two, neighbours 2i and 2i + 1 first become one, so that ranges of ranks stay together.
    """
    power = 1 << (size.bit_length() - 1)
    paired = 2 * (size - power)
    if rank < paired and rank % 2:
        yield rank - 1, value
        return (yield rank - 1)
    if rank < paired:
        value = combine(value, (yield rank + 1))
    place = rank // 2 if rank < paired else rank - paired // 2
    distance = 1
    while distance < power:
        partner = place ^ distance
        other = 2 * partner if 2 * partner < paired else partner + paired // 2
        yield other, value
        theirs = yield other
        value = combine(value, theirs) if place < partner else combine(theirs, value)
        distance *= 2
    if rank < paired:
        yield rank + 1, value
    return value


def flat_reduce(rank: int, size: int, value: Any, combine: Combine, root: int = 0) -> Steps:
    """Reduce: everybody sends to ``root``, which combines in order of rank. None elsewhere."""
    if rank != root:
        yield root, value
        return None
    result: Any = None
    for other in range(size):
        part = value if other == root else (yield other)
        result = part if other == 0 else combine(result, part)
    return result


def tree_reduce(rank: int, size: int, value: Any, combine: Combine, root: int = 0) -> Steps:
    """Reduce: halves of a range of ranks are combined by the half that has ``root``. None elsewhere."""
    splits = []
    low, high = 0, size
    while high - low > 1:
        middle = (low + high + 1) // 2
        splits.append((low, middle, high))
        low, high = (low, middle) if rank < middle else (middle, high)
    for low, middle, high in reversed(splits):
        left = root if low <= root < middle else low
        right = root if middle <= root < high else middle
        top = right if right == root else left
        other = left if top == right else right
        if rank == other:
            yield top, value
            return None
        theirs = yield other
        value = combine(value, theirs) if top == left else combine(theirs, value)
    return value


def reduce_and_broadcast(rank: int, size: int, value: Any, combine: Combine) -> Steps:
    """Allreduce: a tree to rank 0 and back; fewest bytes, twice the latency."""
    result = yield from tree_reduce(rank, size, value, combine)
    return (yield from tree_broadcast(rank, size, result))


def scan(rank: int, size: int, value: Any, combine: Combine) -> Steps:
    """The combination of ranks 0 to this one: distances double; log2(size) latencies."""
    distance = 1
    while distance < size:
        if rank + distance < size:
            yield rank + distance, value
        if rank >= distance:
            value = combine((yield rank - distance), value)
        distance *= 2
    return value


def exscan(rank: int, size: int, value: Any, combine: Combine) -> Steps:
    """The combination of all ranks before this one; None on rank 0."""
    result = yield from scan(rank, size, value, combine)
    if rank + 1 < size:
        yield rank + 1, result
    return (yield rank - 1) if rank else None


# -- moving values ---------------------------------------------------------------------------------------------------


def tree_broadcast(rank: int, size: int, value: Any, root: int = 0) -> Steps:
    """Binomial tree from ``root``; the value everywhere."""
    me = (rank - root) % size
    distance = 1
    while distance < size:
        if me < distance:
            if me + distance < size:
                yield (me + distance + root) % size, value
        elif me < 2 * distance:
            value = yield (me - distance + root) % size
        distance *= 2
    return value


def chain_broadcast(rank: int, size: int, value: Any, root: int = 0) -> Steps:
    """Each rank passes on to the next: one message in and one out, for values that come in pieces."""
    me = (rank - root) % size
    if me:
        value = yield (rank - 1) % size
    if me + 1 < size:
        yield (rank + 1) % size, value
    return value


def gather(rank: int, size: int, value: Any, root: int = 0) -> Steps:
    """Everybody's value by rank, at ``root``; None elsewhere."""
    if rank != root:
        yield root, value
        return None
    values = []
    for other in range(size):
        values.append(value if other == root else (yield other))
    return values


def allgather(rank: int, size: int, value: Any) -> Steps:
    """Everybody's value by rank, everywhere: each sends to all, in a turn that no two share."""
    for distance in range(1, size):
        yield (rank + distance) % size, value
    values = [value] * size
    for distance in range(1, size):
        other = (rank - distance) % size
        values[other] = yield other
    return values


def ring_allgather(rank: int, size: int, value: Any) -> Steps:
    """As :func:`allgather`, round the ring: each sends to the next only, so that no link carries more than another."""
    values = [value] * size
    for step in range(size - 1):
        yield (rank + 1) % size, values[(rank - step) % size]
        values[(rank - step - 1) % size] = yield (rank - 1) % size
    return values


def ring_reduce_scatter(rank: int, size: int, values: Sequence[Any], combine: Combine) -> Steps:
    """Value i of all, combined, at rank i, round the ring: of ranks i + 1, i + 2, ... and last i itself."""
    pieces = list(values)
    for step in range(1, size):
        yield (rank + 1) % size, pieces[(rank - step) % size]
        came = yield (rank - 1) % size
        mine = (rank - step - 1) % size
        pieces[mine] = combine(came, pieces[mine])
    return pieces[rank]


def scatter(rank: int, size: int, values: Sequence[Any] | None, root: int = 0) -> Steps:
    """Value i of ``root`` to rank i."""
    if rank != root:
        return (yield root)
    assert values is not None
    for other in range(size):
        if other != root:
            yield other, values[other]
    return values[root]


def alltoall(rank: int, size: int, values: Sequence[Any]) -> Steps:
    """Value i of each to rank i; what came, by rank of the sender."""
    for distance in range(1, size):
        other = (rank + distance) % size
        yield other, values[other]
    came = [values[rank]] * size
    for distance in range(1, size):
        other = (rank - distance) % size
        came[other] = yield other
    return came


def neighbours(rank: int, values: Mapping[int, Any], sources: Sequence[int]) -> Steps:
    """A value to each of some ranks, one from each of ``sources``; what came, by rank of the sender."""
    for other, value in values.items():
        if other != rank:
            yield other, value
    came = {}
    for other in sources:
        came[other] = values[rank] if other == rank else (yield other)
    return came


def sparse(rank: int, values: Mapping[int, Any], n_incoming: int) -> Steps:
    """A value to each of some ranks, one from each of ``n_incoming`` ranks, whoever they are; what came, by rank."""
    for other, value in values.items():
        if other != rank:
            yield other, value
    came = {rank: values[rank]} if rank in values else {}
    while len(came) < n_incoming:
        other, value = yield ANY
        came[other] = value
    return dict(sorted(came.items()))


ALLREDUCE: Final[Mapping[str, Callable[[int, int, Any, Combine], Steps]]] = {
    "exchange": exchange,
    "recursive_doubling": recursive_doubling,
    "tree": reduce_and_broadcast,
}
REDUCE: Final[Mapping[str, Callable[[int, int, Any, Combine, int], Steps]]] = {
    "flat": flat_reduce,
    "tree": tree_reduce,
}
ALLGATHER: Final[Mapping[str, Callable[[int, int, Any], Steps]]] = {
    "direct": allgather,
    "ring": ring_allgather,
}
BROADCAST: Final[Mapping[str, Callable[[int, int, Any, int], Steps]]] = {
    "tree": tree_broadcast,
    "chain": chain_broadcast,
}


def allreduce_for(size: int) -> Callable[[int, int, Any, Combine], Steps]:
    """The algorithm for a number of members (never for a size of data: that may differ between them)."""
    return exchange if size <= FEW else recursive_doubling


def reduce_for(size: int) -> Callable[[int, int, Any, Combine, int], Steps]:
    """As :func:`allreduce_for`."""
    return flat_reduce if size <= FEW else tree_reduce


# -- driving ---------------------------------------------------------------------------------------------------------


class Run:
    """Drives one generator over a port whose tasks are the ranks of a group. Never waits.

    :ivar done: whether it is complete; :ivar result: what it returned.
    :ivar wants: the rank whose message it waits for or :data:`ANY`; None when it waits for credit.
    """

    __slots__ = ("_blocked", "_early", "_me", "_port", "_steps", "done", "result", "wants")

    def __init__(self, steps: Steps, port: Port, me: int) -> None:
        self._steps = steps
        self._port = port
        self._me = me
        self._early: dict[int, list[Any]] = {}
        self._blocked: tuple[int, Any] | None = None
        self.wants: int | None = None
        self.done = False
        self.result: Any = None
        self._go_on(None)

    def _go_on(self, answer: Any) -> None:
        port, me = self._port, self._me
        try:
            wish = self._steps.send(answer)
            while True:
                if type(wish) is int:
                    came = self._came_early(wish)
                    if came is None:
                        self.wants = wish
                        return
                    wish = self._steps.send(came[0])
                    continue
                if not port.send(me, wish[0], _DATA, wish[1]):
                    self._blocked = wish
                    return
                wish = self._steps.send(None)
        except StopIteration as stop:
            self.done = True
            self.result = stop.value

    def _came_early(self, wish: int) -> tuple[Any] | None:
        if wish != ANY:
            early = self._early.get(wish)
            return (early.pop(0),) if early else None
        for source, early in self._early.items():
            if early:
                return ((source, early.pop(0)),)
        return None

    def advance(self) -> bool:
        """Go as far as possible; whether it is complete."""
        while not self.done:
            if self._blocked is not None:
                if not self._port.send(self._me, self._blocked[0], _DATA, self._blocked[1]):
                    return False
                self._blocked = None
                self._go_on(None)
                continue
            delivery = self._port.receive(self._me)
            if delivery is None:
                return False
            if delivery.source == self.wants:
                self.wants = None
                self._go_on(delivery.value)
            elif self.wants == ANY:
                self.wants = None
                self._go_on((delivery.source, delivery.value))
            else:
                self._early.setdefault(delivery.source, []).append(delivery.value)
        return True
