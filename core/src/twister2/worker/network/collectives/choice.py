"""Which algorithm by messages serves a call: named by the call, or chosen by size and number of members."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from twister2.spec.errors import OperatorError
from twister2.worker.network.collectives import moving, reducing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twister2.worker.network.collectives.checking import Plan

SHORT = 32 << 10
"""Bytes up to which few rounds count more than little data."""
PIPELINED = 1 << 20
"""Bytes from which messages are cut into pieces that follow each other."""
CROWD = 8
"""Members from which trees beat sending directly."""

Algorithm: TypeAlias = "Callable[..., Iterator[None]]"

ALGORITHMS: dict[str, dict[str, Algorithm]] = {
    "barrier": {"dissemination": moving.barrier_dissemination},
    "broadcast": {
        "tree": moving.broadcast_tree,
        "chain": moving.broadcast_chain,
        "direct": moving.broadcast_direct,
    },
    "reduce": {"tree": reducing.reduce_tree, "chain": reducing.reduce_chain},
    "allreduce": {
        "recursive_doubling": reducing.allreduce_doubling,
        "ring": reducing.allreduce_ring,
        "recursive_halving": reducing.allreduce_halving,
        "tree": reducing.allreduce_tree,
    },
    "scan": {"recursive_doubling": reducing.scan_doubling, "chain": reducing.scan_chain},
    "exscan": {"recursive_doubling": reducing.scan_doubling, "chain": reducing.scan_chain},
    "reduce_scatter": {"pairwise": reducing.scatter_pairwise, "ring": reducing.scatter_ring},
    "gather": {"direct": moving.gather_direct, "tree": moving.gather_tree},
    "allgather": {
        "ring": moving.allgather_ring,
        "bruck": moving.allgather_bruck,
        "direct": moving.allgather_direct,
    },
    "scatter": {"direct": moving.scatter_direct, "tree": moving.scatter_tree},
    "alltoall": {
        "direct": moving.alltoall_direct,
        "pairwise": moving.alltoall_pairwise,
        "bruck": moving.alltoall_bruck,
    },
}
EQUAL_ONLY = frozenset({moving.gather_tree, moving.allgather_bruck, moving.scatter_tree, moving.alltoall_bruck})
"""Algorithms that need equal counts."""


def choose(operation: str, nbytes: int, size: int, *, equal: bool, whole: bool) -> str:
    """The name of the algorithm.

    :param nbytes: bytes of one member's part, or of the array that all have. :param equal: no counts were given.
    :param whole: arrays must not be split, nor the order of ranks be changed.
    """
    large = nbytes >= PIPELINED
    few = equal and nbytes <= SHORT // size and size >= CROWD
    if operation == "allreduce":
        if whole or nbytes <= SHORT:
            return "recursive_doubling"
        return "ring" if large and size & (size - 1) else "recursive_halving"
    if operation == "allgather":
        spread = "ring" if equal and nbytes > SHORT and size > 2 else "direct"
        return "bruck" if few else spread
    if operation == "alltoall":
        spread = "pairwise" if not equal or nbytes >= PIPELINED // size else "direct"
        return "bruck" if few else spread
    pipelined = large and size > 2 and not whole
    return {
        "barrier": "dissemination",
        "broadcast": "chain" if pipelined else "tree",
        "reduce": "chain" if pipelined else "tree",
        "scan": "chain" if pipelined else "recursive_doubling",
        "exscan": "chain" if pipelined else "recursive_doubling",
        "reduce_scatter": "ring" if pipelined else "pairwise",
        "gather": "tree" if few else "direct",
        "scatter": "tree" if few else "direct",
    }[operation]


def named(operation: str, name: str, *, equal: bool, whole: bool) -> str:
    """Check the name of an algorithm by messages.

    :raises OperatorError: it does not exist, or cannot serve this call.
    """
    known = ALGORITHMS[operation]
    if name not in known:
        raise OperatorError(
            f"there is no algorithm '{name}' for {operation}",
            why=f"there are {', '.join(known)}; also 'native', the transport's own, and 'hosts', the transport's own "
            "inside each host, where it has such",
            remedy="use one of them, or leave it to the system",
        )
    function = known[name]
    if function in EQUAL_ONLY and not equal:
        raise OperatorError(
            f"the algorithm '{name}' of {operation} needs equal counts",
            why="this call has counts of its own for each member",
            remedy="use another algorithm, or leave it to the system",
        )
    if whole and operation in _REDUCTIONS and function not in reducing.WHOLE and function is not reducing.scan_chain:
        raise OperatorError(
            f"the algorithm '{name}' of {operation} serves named ops only",
            why="it splits arrays or changes the order of ranks, which a function may not allow",
            remedy="use another algorithm, or leave it to the system",
        )
    return name


_REDUCTIONS = frozenset({"reduce", "allreduce", "scan", "exscan", "reduce_scatter"})


def by_messages(x: Any, plan: Plan, send: Any, receive: Any) -> Iterator[None] | None:
    """The generator that does the call among the members of ``x``; arrays are flat. None: it is done already."""
    operation = plan.call.operation
    return _MAKERS[operation](ALGORITHMS[operation][plan.algorithm], x, plan, send, receive)


def _barrier(function: Algorithm, x: Any, plan: Plan, send: Any, receive: Any) -> Iterator[None]:
    return function(x)


def _broadcast(function: Algorithm, x: Any, plan: Plan, send: Any, receive: Any) -> Iterator[None]:
    return function(x, receive, plan.call.root)


def _allreduce(function: Algorithm, x: Any, plan: Plan, send: Any, receive: Any) -> Iterator[None] | None:
    if x.size > 1:
        return function(x, receive if send is None else send, receive, plan.combine)
    if send is not None:
        receive[:] = send
    return None


def _reduce(function: Algorithm, x: Any, plan: Plan, send: Any, receive: Any) -> Iterator[None]:
    if receive is None:
        receive = send.copy()
    elif send is not None:
        receive[:] = send
    return function(x, receive, plan.combine, plan.call.root)


def _scan(function: Algorithm, x: Any, plan: Plan, send: Any, receive: Any) -> Iterator[None]:
    exclusive = plan.call.operation == "exscan"
    if function is reducing.scan_chain and plan.whole:
        function = reducing.scan_chain_whole
    if exclusive and x.rank == 0 and send is not None:
        receive = send.copy()  # the caller's stays untouched
    elif send is not None:
        receive[:] = send
    return function(x, receive, plan.combine, exclusive)


def _reduce_scatter(function: Algorithm, x: Any, plan: Plan, send: Any, receive: Any) -> Iterator[None]:
    counts = plan.call.receive_counts or [receive.size] * x.size
    return function(x, send, receive, counts, plan.combine)


def _gather(function: Algorithm, x: Any, plan: Plan, send: Any, receive: Any) -> Iterator[None]:
    return function(x, send, receive, plan.call.root, plan.call.receive_counts)


def _scatter(function: Algorithm, x: Any, plan: Plan, send: Any, receive: Any) -> Iterator[None]:
    return function(x, send, receive, plan.call.root, plan.call.send_counts)


def _allgather(function: Algorithm, x: Any, plan: Plan, send: Any, receive: Any) -> Iterator[None]:
    return function(x, send, receive, plan.call.receive_counts)


def _alltoall(function: Algorithm, x: Any, plan: Plan, send: Any, receive: Any) -> Iterator[None]:
    return function(x, send, receive, plan.call.send_counts, plan.call.receive_counts)


_MAKERS: dict[str, Callable[..., Iterator[None] | None]] = {
    "barrier": _barrier,
    "broadcast": _broadcast,
    "reduce": _reduce,
    "allreduce": _allreduce,
    "scan": _scan,
    "exscan": _scan,
    "reduce_scatter": _reduce_scatter,
    "gather": _gather,
    "allgather": _allgather,
    "scatter": _scatter,
    "alltoall": _alltoall,
}
