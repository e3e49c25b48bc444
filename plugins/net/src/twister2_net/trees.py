"""Algorithms of small collectives, each a generator that says what to send and what it waits for.

A generator yields ``(rank, value)`` to send and ``rank`` (an int) to receive, and returns the result. The order of
combination depends on the ranks only, never on the order of arrival: every worker gets the same bits, in every
run. New algorithms are added to :data:`ALLREDUCE` and :data:`REDUCE` by name.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Final

Steps = Generator[Any, Any, Any]
Combine = Callable[[Any, Any], Any]


def exchange(rank: int, size: int, value: Any, combine: Combine) -> Steps:
    """Everybody sends to everybody: one latency, ``size * (size - 1)`` messages."""
    for other in range(size):
        if other != rank:
            yield other, value
    result = value if rank == 0 else (yield 0)
    for other in range(1, size):
        part = value if other == rank else (yield other)
        result = combine(result, part)
    return result


def recursive_doubling(rank: int, size: int, value: Any, combine: Combine) -> Steps:
    """Pairs at growing distance swap what they have: log2(size) latencies. Ranks beyond a power of two fold in."""
    power = 1 << (size.bit_length() - 1)
    rest = size - power
    if rank >= power:
        yield rank - power, value
        return (yield rank - power)
    if rank < rest:
        value = combine(value, (yield rank + power))
    distance = 1
    while distance < power:
        other = rank ^ distance
        yield other, value
        theirs = yield other
        value = combine(value, theirs) if rank < other else combine(theirs, value)
        distance *= 2
    if rank < rest:
        yield rank + power, value
    return value


def tree_reduce(rank: int, size: int, value: Any, combine: Combine, root: int = 0) -> Steps:
    """Binomial tree towards ``root``; the result there, None elsewhere."""
    me = (rank - root) % size
    distance = 1
    while distance < size:
        if me & distance:
            yield (me - distance + root) % size, value
            return None
        if me + distance < size:
            value = combine(value, (yield (me + distance + root) % size))
        distance *= 2
    return value


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


def flat_reduce(rank: int, size: int, value: Any, combine: Combine, root: int = 0) -> Steps:
    """Everybody sends to ``root``, which combines in order of rank."""
    if rank != root:
        yield root, value
        return None
    result: Any = None
    for other in range(size):
        part = value if other == root else (yield other)
        result = part if other == 0 else combine(result, part)
    return result


def reduce_and_broadcast(rank: int, size: int, value: Any, combine: Combine) -> Steps:
    """A tree to rank 0 and back: fewest bytes of the three, twice the latency."""
    result = yield from tree_reduce(rank, size, value, combine)
    return (yield from tree_broadcast(rank, size, result))


ALLREDUCE: Final[dict[str, Callable[[int, int, Any, Combine], Steps]]] = {
    "exchange": exchange,
    "recursive_doubling": recursive_doubling,
    "tree": reduce_and_broadcast,
}
REDUCE: Final[dict[str, Callable[[int, int, Any, Combine, int], Steps]]] = {"flat": flat_reduce, "tree": tree_reduce}


def allreduce_for(size: int) -> Callable[[int, int, Any, Combine], Steps]:
    """The algorithm for a number of workers (never for a size of data: that may differ between workers)."""
    return exchange if size <= 3 else recursive_doubling


def reduce_for(size: int) -> Callable[[int, int, Any, Combine, int], Steps]:
    """As :func:`allreduce_for`."""
    return flat_reduce if size <= 3 else tree_reduce


class Collective:
    """Drives one generator over a port whose tasks are the ranks of a group. Never waits."""

    __slots__ = ("_blocked", "_early", "_me", "_port", "_steps", "_want", "done", "result")

    def __init__(self, steps: Steps, port: Any, me: int) -> None:
        self._steps = steps
        self._port = port
        self._me = me
        self._early: dict[int, list[Any]] = {}
        self._want: int | None = None
        self._blocked: tuple[int, Any] | None = None
        self.done = False
        self.result: Any = None
        self._run(None)

    def _run(self, answer: Any) -> None:
        port, me = self._port, self._me
        try:
            wish = self._steps.send(answer)
            while True:
                if type(wish) is int:
                    early = self._early.get(wish)
                    if not early:
                        self._want = wish
                        return
                    wish = self._steps.send(early.pop(0))
                    continue
                if not port.send(me, wish[0], 0, wish[1]):
                    self._blocked = wish
                    return
                wish = self._steps.send(None)
        except StopIteration as stop:
            self.done = True
            self.result = stop.value

    def advance(self) -> bool:
        """Go as far as possible; whether it is complete."""
        while not self.done:
            if self._blocked is not None:
                if not self._port.send(self._me, self._blocked[0], 0, self._blocked[1]):
                    return False
                self._blocked = None
                self._run(None)
                continue
            delivery = self._port.receive(self._me)
            if delivery is None:
                return False
            if delivery.source == self._want:
                self._want = None
                self._run(delivery.value)
            else:
                self._early.setdefault(delivery.source, []).append(delivery.value)
        return True
