"""How each collective is started on a communicator. Buffers are checked by the caller."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..world import MPI
from .types import part, reduction

if TYPE_CHECKING:
    from collections.abc import Callable

    from twister2.spec.collectives import Call

    from .checks import Counts

MOVED = 4 << 20
"""Bytes that a member gives up to which a call that only moves them is carried in pieces (:mod:`carried`): the library
copies more of them once, from the one's array to the other's. Where it reduces it is slower at any size.
"""

_FEW = 4
"""Members to which the root of a large scatter sends their parts itself, while it copies its own: the library's call
does one after the other.
"""
_TAG = 4
"""Of its messages."""

_VARIES = 0x5DEECE66D
_MASK = (1 << 64) - 1


def variant(call: Call) -> int:
    """What a call with counts adds to the fingerprint: it is another one for MPI than the same without counts."""
    operation = call.operation
    if operation in ("alltoall", "gather", "scatter"):
        return 0 if call.send_counts is None and call.receive_counts is None else _VARIES
    if operation in ("allgather", "reduce_scatter") and call.receive_counts is not None:
        return hash(call.receive_counts) & _MASK  # of numbers: equal in all processes
    return 0


def counts(call: Call, rank: int, size: int, send: Any, receive: Any) -> Counts | None:
    """Sizes of the parts that go to and come from each member, where these may differ. Equal ones are told by the
    fingerprint.
    """
    if call.send_counts is None and call.receive_counts is None:
        return None
    operation = call.operation
    if operation == "alltoall":
        return _of_alltoall(call, size, send, receive)
    if operation == "gather":
        given, expected = [0] * size, [0] * size
        if rank == call.root:
            return given, call.receive_counts or ()
        given[call.root] = send.size
        return given, expected
    if operation == "scatter":
        given, expected = [0] * size, [0] * size
        if rank == call.root:
            return call.send_counts or (), expected
        expected[call.root] = receive.size
        return given, expected
    return None


def _of_alltoall(call: Call, size: int, send: Any, receive: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return call.send_counts or (send.size // size,) * size, call.receive_counts or (receive.size // size,) * size


class Several:
    """Requests of the library that are one call; asked as one of them is."""

    __slots__ = ("_requests",)

    def __init__(self, requests: list[MPI.Request]) -> None:
        self._requests = requests

    def Test(self) -> bool:
        """Whether all are complete.

        :raises MPI.Exception: one of them failed.
        """
        return MPI.Request.Testall(self._requests)


def _broadcast(comm: MPI.Intracomm, call: Call, send: Any, receive: Any) -> MPI.Request:
    return comm.Ibcast(part(receive), call.root)


def _reduce(comm: MPI.Intracomm, call: Call, send: Any, receive: Any) -> MPI.Request:
    op = reduction(call.op, (send if receive is None else receive).dtype)
    assert op is not None
    into = None if receive is None else part(receive)
    return comm.Ireduce(MPI.IN_PLACE if send is None else part(send), into, op, call.root)


def _allreduce(comm: MPI.Intracomm, call: Call, send: Any, receive: Any) -> MPI.Request:
    op = reduction(call.op, receive.dtype)
    assert op is not None
    return comm.Iallreduce(MPI.IN_PLACE if send is None else part(send), part(receive), op)


def _scan(comm: MPI.Intracomm, call: Call, send: Any, receive: Any) -> MPI.Request:
    op = reduction(call.op, receive.dtype)
    assert op is not None
    return comm.Iscan(MPI.IN_PLACE if send is None else part(send), part(receive), op)


def _exscan(comm: MPI.Intracomm, call: Call, send: Any, receive: Any) -> MPI.Request:
    op = reduction(call.op, receive.dtype)
    assert op is not None
    return comm.Iexscan(MPI.IN_PLACE if send is None else part(send), part(receive), op)


def _reduce_scatter(comm: MPI.Intracomm, call: Call, send: Any, receive: Any) -> MPI.Request:
    op = reduction(call.op, receive.dtype)
    assert op is not None
    if call.receive_counts is None:
        return comm.Ireduce_scatter_block(part(send, receive.size), part(receive), op)
    return comm.Ireduce_scatter(part(send), part(receive), call.receive_counts, op)


def _gather(comm: MPI.Intracomm, call: Call, send: Any, receive: Any) -> MPI.Request:
    if call.receive_counts is None:
        return comm.Igather(part(send), None if receive is None else part(receive, send.size), call.root)
    return comm.Igatherv(part(send), None if receive is None else _parts(receive, call.receive_counts), call.root)


def _scatter(comm: MPI.Intracomm, call: Call, send: Any, receive: Any) -> MPI.Request | Several:
    if call.send_counts is None:
        if comm.size <= _FEW and receive.nbytes * comm.size > MOVED:
            return _sent(comm, call, send, receive)
        return comm.Iscatter(None if send is None else part(send, receive.size), part(receive), call.root)
    return comm.Iscatterv(None if send is None else _parts(send, call.send_counts), part(receive), call.root)


def _sent(comm: MPI.Intracomm, call: Call, send: Any, receive: Any) -> MPI.Request | Several:
    """A scatter as messages."""
    if comm.rank != call.root:
        return comm.Irecv(part(receive), call.root, _TAG)
    parts = send.reshape(comm.size, -1)
    others = [rank for rank in range(comm.size) if rank != call.root]
    under_way = Several([comm.Isend(part(parts[rank]), rank, _TAG) for rank in others])
    receive.reshape(-1)[...] = parts[call.root]
    return under_way


def _allgather(comm: MPI.Intracomm, call: Call, send: Any, receive: Any) -> MPI.Request:
    if call.receive_counts is None:
        return comm.Iallgather(part(send), part(receive, receive.size // comm.size))
    return comm.Iallgatherv(part(send), _parts(receive, call.receive_counts))


def _alltoall(comm: MPI.Intracomm, call: Call, send: Any, receive: Any) -> MPI.Request:
    size = comm.size
    if call.receive_counts is None and call.send_counts is None:
        return comm.Ialltoall(part(send, send.size // size), part(receive, receive.size // size))
    sent, received = _of_alltoall(call, size, send, receive)
    return comm.Ialltoallv(_parts(send, sent), _parts(receive, received))


def _parts(array: Any, sizes: tuple[int, ...]) -> Any:
    buffer, _, datatype = part(array, sizes)
    return buffer, sizes, None, datatype


STARTERS: dict[str, Callable[[MPI.Intracomm, Call, Any, Any], MPI.Request | Several]] = {
    "broadcast": _broadcast,
    "reduce": _reduce,
    "allreduce": _allreduce,
    "scan": _scan,
    "exscan": _exscan,
    "reduce_scatter": _reduce_scatter,
    "gather": _gather,
    "scatter": _scatter,
    "allgather": _allgather,
    "alltoall": _alltoall,
}
WITH_COUNTS = frozenset({"allgather", "alltoall", "gather", "reduce_scatter", "scatter"})
REDUCTIONS = frozenset({"reduce", "allreduce", "scan", "exscan", "reduce_scatter"})
FROM_ROOT = frozenset({"broadcast", "scatter"})
TO_ROOT = frozenset({"reduce", "gather"})
