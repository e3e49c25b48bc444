"""Collectives of groups that span hosts: native ones among the members of each host, messages between one leader each.

The members of one host are an *island*. Each call is a few phases, which are generators like the algorithms by
messages. Calls of a group take their turn one after another, since the phases of two calls must not be mixed.
"""

from __future__ import annotations

import functools
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from twister2.spec.collectives import Call
from twister2.worker.network.collectives import choice, moving, reducing
from twister2.worker.network.collectives.exchange import Part

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from twister2.spec.collectives import Op
    from twister2.worker.network.collectives.checking import Plan
    from twister2.worker.network.collectives.exchange import Exchange
    from twister2.worker.network.collectives.native import NativeRoad
    from twister2.worker.network.steps import NumberedStep

OPERATIONS = frozenset(
    {"barrier", "broadcast", "reduce", "allreduce", "reduce_scatter", "gather", "allgather", "scatter"}
)
"""What goes this road; prefixes need the order of ranks, and an alltoall moves the same bytes either way."""


def islands_of(members: Sequence[int], hosts: Mapping[int, str]) -> list[list[int]]:
    """Ranks by host, in the order of their first ranks; the same on all members."""
    found: dict[str, list[int]] = {}
    for rank, worker in enumerate(members):
        found.setdefault(hosts.get(worker, ""), []).append(rank)
    return list(found.values())


@functools.lru_cache(maxsize=256)
def _within(operation: str, op: Op, root: int) -> Call:
    """One object for equal calls: transports remember what they prepared for a call by its identity."""
    return Call(operation, op, root)


class HostsRoad:
    """The way of a group whose members are on several hosts."""

    def __init__(self, islands: list[list[int]], rank: int, native: NativeRoad | None) -> None:
        self._islands, self._native = islands, native
        self._mine = next(number for number, island in enumerate(islands) if rank in island)
        self._order = [rank for island in islands for rank in island]
        self._turns: deque[object] = deque()

    def takes(self, plan: Plan) -> bool:
        """Whether it does this call; the same on all members."""
        return plan.call.operation in OPERATIONS and plan.equal and not plan.whole

    def begin(self, x: Exchange, plan: Plan, send: Any, receive: Any, step: NumberedStep) -> Iterator[None]:
        """The call as a generator; arrays are flat."""
        turn = object()
        self._turns.append(turn)
        return self._in_turn(turn, _OneCall(self, x, plan, step).phases(send, receive))

    def _in_turn(self, turn: object, phases: Iterator[None]) -> Iterator[None]:
        while self._turns[0] is not turn:
            yield
        yield from phases
        self._turns.popleft()

    def leaders(self, root: int | None) -> list[int]:
        """One rank of each island: the root where it is, else the first."""
        return [root if root is not None and root in island else island[0] for island in self._islands]


class _OneCall:
    def __init__(self, road: HostsRoad, x: Exchange, plan: Plan, step: NumberedStep) -> None:
        self.plan, self.step, self.native, self.order = plan, step, road._native, road._order
        self.islands = road._islands
        self.island = road._islands[road._mine]
        self.here = road._mine
        self.call = plan.call
        rooted = self.call.operation in ("broadcast", "reduce", "gather", "scatter")
        leaders = road.leaders(self.call.root if rooted else None)
        self.leader = leaders[road._mine]
        self.leads = x.rank == self.leader
        self.top = next(number for number, island in enumerate(self.islands) if self.call.root in island)
        """The island of the root."""
        self.inner = Part(x, self.island)
        self.outer = Part(x, leaders) if self.leads else None
        self.at = self.island.index(self.leader)

    def phases(self, send: Any, receive: Any) -> Iterator[None]:
        """What this member does."""
        operation = self.call.operation
        if operation == "barrier":
            return self._barrier()
        if operation == "broadcast":
            return self._broadcast(receive)
        if operation in ("reduce", "allreduce"):
            return self._reduce(receive if send is None else send, receive)
        if operation == "reduce_scatter":
            return self._reduce_scatter(send, receive)
        if operation == "scatter":
            return self._scatter(send, receive)
        return self._gather(send, receive)

    # -- inside the island ---------------------------------------------------------------------------------------------

    def _inside(self, operation: str, send: Any, receive: Any, n: int) -> Iterator[None]:
        """An operation of the island with its leader as root; ``n`` elements are one member's part."""
        if len(self.island) == 1:
            return
        call, plan = _within(operation, self.call.op, self.at), self.plan
        nbytes = n * plan.dtype.itemsize if plan.dtype is not None else 0
        if self.native is not None and self.native.takes(call, plan.dtype, nbytes):
            yield from self.native.within(call, send, receive, self.step)
            return
        x = self.inner
        if operation == "barrier":
            yield from moving.barrier_dissemination(x)
        elif operation == "broadcast":
            yield from moving.broadcast_tree(x, receive, self.at)
        elif operation == "reduce":
            data = send.copy() if receive is None else receive
            if receive is not None and send is not None:
                receive[:] = send
            yield from reducing.reduce_tree(x, data, plan.combine, self.at)  # type: ignore[arg-type]
        elif operation == "gather":
            yield from moving.gather_direct(x, send, receive, self.at, None)
        else:
            yield from moving.scatter_direct(x, send, receive, self.at, None)

    # -- operations ----------------------------------------------------------------------------------------------------

    def _barrier(self) -> Iterator[None]:
        yield from self._inside("barrier", None, None, 0)
        if self.outer is not None:
            yield from moving.barrier_dissemination(self.outer)
        yield from self._inside("barrier", None, None, 0)

    def _broadcast(self, data: Any) -> Iterator[None]:
        if self.outer is not None:
            name = choice.choose("broadcast", data.nbytes, len(self.islands), equal=True, whole=False)
            yield from choice.ALGORITHMS["broadcast"][name](self.outer, data, self.top)
        yield from self._inside("broadcast", None, data, data.size)

    def _reduce(self, given: Any, receive: Any) -> Iterator[None]:
        everywhere = self.call.operation == "allreduce"
        result = receive
        if self.outer is not None:
            if result is None:
                result = np.empty_like(given)
            if len(self.island) == 1:
                if result is not given:
                    result[:] = given
            else:
                yield from self._inside("reduce", None if result is given else given, result, given.size)
            name = choice.choose(self.call.operation, result.nbytes, len(self.islands), equal=True, whole=False)
            algorithm = choice.ALGORITHMS[self.call.operation][name]
            if everywhere:
                yield from algorithm(self.outer, result, result, self.plan.combine)
            else:
                yield from algorithm(self.outer, result, self.plan.combine, self.top)
        else:
            yield from self._inside("reduce", given, None, given.size)
        if everywhere:
            yield from self._inside("broadcast", None, receive, receive.size)

    def _gather(self, send: Any, receive: Any) -> Iterator[None]:
        n, dtype = send.size, send.dtype
        if self.outer is None:
            yield from self._inside("gather", send, None, n)
        else:
            mine = send if len(self.island) == 1 else np.empty(len(self.island) * n, dtype)
            yield from self._inside("gather", send, mine, n)
            counts = [len(island) * n for island in self.islands]
            if self.call.operation == "gather":
                whole = np.empty(n * len(self.order), dtype) if receive is not None else None
                yield from moving.gather_direct(self.outer, mine, whole, self.top, counts)
            else:
                whole = np.empty(n * len(self.order), dtype)
                yield from moving.allgather_ring(self.outer, mine, whole, counts)
            if whole is not None:
                receive.reshape(len(self.order), n)[self.order] = whole.reshape(len(self.order), n)
        if self.call.operation == "allgather":
            yield from self._inside("broadcast", None, receive, receive.size)

    def _scatter(self, send: Any, receive: Any) -> Iterator[None]:
        n, mine = receive.size, None
        if self.outer is not None:
            whole = None if send is None else send.reshape(len(self.order), n)[self.order].reshape(-1)
            mine = np.empty(len(self.island) * n, receive.dtype)
            yield from moving.scatter_direct(self.outer, whole, mine, self.top, [len(i) * n for i in self.islands])
        yield from self._share(mine, receive)

    def _reduce_scatter(self, send: Any, receive: Any) -> Iterator[None]:
        n, mine = receive.size, None
        if self.outer is None:
            yield from self._inside("reduce", send, None, send.size)
        else:
            total = send
            if len(self.island) > 1:
                total = np.empty_like(send)
                yield from self._inside("reduce", send, total, send.size)
            ordered = total.reshape(len(self.order), n)[self.order].reshape(-1)
            mine = np.empty(len(self.island) * n, receive.dtype)
            counts = [len(island) * n for island in self.islands]
            yield from reducing.scatter_pairwise(self.outer, ordered, mine, counts, self.plan.combine)  # type: ignore[arg-type]
        yield from self._share(mine, receive)

    def _share(self, mine: Any, receive: Any) -> Iterator[None]:
        """The leader has the parts of its island, in its order; everybody gets one."""
        if len(self.island) == 1:
            receive[:] = mine
            return
        yield from self._inside("scatter", mine, receive, receive.size)
