"""Who passes on to whom: the ways of one worker, for each algorithm. Pure functions, the same answer on all workers.

A *way* says which inputs of a worker (its own sources, other workers) go to which outputs (other workers, its own
targets). Channels of opposite purpose never share a direction: up goes from higher to lower worker ids, down from the
head or from lower to higher. No way leads back to where it came from, so nobody waits in a circle.

* ``direct``: every worker with sources sends to every worker with targets; one latency.
* ``tree``: up a binomial tree to the head, the lowest worker with sources, and down another from the first worker with
  targets (the head itself where it has some); log2(n) latencies.
* ``chain``: up and down along a line: each worker sends to its neighbours only.

Every worker of a tree or chain covers consecutive worker ids, so what is combined in order of inputs is combined in
order of worker ids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from twister2.spec.values import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE: Final = -1
"""The output that is the worker's own targets."""

LOCAL: Final = -1
"""The input that is the worker's own sources."""


@attrs.frozen(eq=False, repr=False)
class Way(Value):
    """Inputs (ranks, or :data:`LOCAL`), in the order in which they are combined, and outputs (ranks, or :data:`HERE`).

    :ivar role: ``"pass"``: what comes goes on; ``"up"``: it is combined, and goes on at every closing mark;
        ``"final"``: it is combined, and goes on at FLUSH and END only.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    role: str = "pass"


def children(position: int, size: int) -> list[int]:
    """Of a binomial tree whose root is position 0; the subtrees cover consecutive positions, ascending."""
    found, distance = [], 1
    while distance < size and not position & distance:
        if position + distance < size:
            found.append(position + distance)
        distance *= 2
    return found


def parent(position: int) -> int:
    """Of a position above 0 in that tree."""
    return position & (position - 1)


def up(algorithm: str, position: int, size: int) -> tuple[list[int], int]:
    """Positions that send to one, and the one it sends to (-1 for the head)."""
    if algorithm == "chain":
        return ([position + 1] if position + 1 < size else []), position - 1
    return children(position, size), parent(position) if position else -1


def reduction(algorithm: str, me: int, sources: Sequence[int], targets: Sequence[int]) -> list[Way]:
    """To one value at all ``targets``. ``sources`` and ``targets``: ranks that have some, ascending."""
    if algorithm == "direct":
        ways = [Way((LOCAL,), tuple(targets), "up")] if me in sources else []
        return ways + ([Way(tuple(sources), (HERE,), "final")] if me in targets else [])
    head = sources[0]
    place = head if head in targets else targets[0]  # what is held until a mark is held where a target is
    order = [place, *(rank for rank in targets if rank != place)]
    ways = []
    if me in sources:
        below, above = up(algorithm, sources.index(me), len(sources))
        inputs = (LOCAL, *(sources[position] for position in below))
        if me == place == head:
            ways.append(Way(inputs, _down(algorithm, me, order), "final"))
        else:
            ways.append(Way(inputs, (place if me == head else sources[above],), "up"))
    if me == place != head:
        ways.append(Way((head,), _down(algorithm, me, order), "final"))
    elif me in targets and me != place:
        position = order.index(me)
        before = position - 1 if algorithm == "chain" else parent(position)
        ways.append(Way((order[before],), _down(algorithm, me, order)))
    return ways


def _down(algorithm: str, me: int, order: list[int]) -> tuple[int, ...]:
    position = order.index(me)
    if algorithm == "chain":
        below = [position + 1] if position + 1 < len(order) else []
    else:
        # a tree over the order turned round: the largest subtree first
        below = children(position, len(order))[::-1]
    return (*tuple(order[other] for other in below), HERE)


def collection(algorithm: str, me: int, sources: Sequence[int], targets: Sequence[int]) -> list[Way]:
    """Everything of all ``sources`` to all ``targets``."""
    if algorithm == "chain":
        return line(me, sources, targets)
    return [attrs.evolve(way, role="pass") for way in reduction(algorithm, me, sources, targets)]


def gathering(algorithm: str, me: int, sources: Sequence[int], root: int) -> list[Way]:
    """Everything of all ``sources`` to ``root``, along a tree or line whose head it is."""
    order = [root, *(rank for rank in sources if rank != root)]
    below, above = up(algorithm, order.index(me), len(order))
    inputs = ((LOCAL,) if me in sources else ()) + tuple(order[position] for position in below)
    return [Way(inputs, (HERE,) if me == root else (order[above],))]


def line(me: int, sources: Sequence[int], targets: Sequence[int]) -> list[Way]:
    """Along the line of all ranks, both ways at once: what comes from the left goes right, and the other way round."""
    first, last = min(*sources, *targets), max(*sources, *targets)
    mine = (LOCAL,) if me in sources else ()
    left = (me - 1,) if me > first and any(rank < me for rank in sources) else ()
    right = (me + 1,) if me < last and any(rank > me for rank in sources) else ()
    ways = []
    if any(rank > me for rank in targets) and (left or mine):
        ways.append(Way(left + mine, (me + 1,)))
    if any(rank < me for rank in targets) and (right or mine):
        ways.append(Way(mine + right, (me - 1,)))
    if me in targets:
        ways.append(Way(left + mine + right, (HERE,)))
    return ways
