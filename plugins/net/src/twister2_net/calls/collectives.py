"""Collectives for worker programs: one call, one numbered step, on numbers, arrays and any other object.

Reductions, ``scan``, ``reduce_scatter`` and ``alltoall`` of numpy arrays go over ``env.network.collectives``, which
uses what the transport has of its own; everything else goes by messages, and arrays travel as their memory. What was
given may be changed again once the call has returned. Arrays that come from another worker are read-only (they lie in
the transport's buffer); the result of a reduction is new and writable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import index
from typing import TYPE_CHECKING, Any, TypeVar

from twister2.spec.batch import is_array
from twister2.spec.collectives import Call
from twister2.spec.errors import OperatorError
from twister2.spec.reducers import combiner, name_of, name_on_arrays
from twister2.spec.tracebacks import short
from twister2_net.combining.reducers import NAMES

if TYPE_CHECKING:
    from twister2.spec.collectives import Collectives
    from twister2.spec.environment import WorkerEnvironment
    from twister2.spec.network import Group

T = TypeVar("T")
Reducer = str | Callable[[Any, Any], Any]

_call = lru_cache(maxsize=256)(Call)
"""Calls are kept, because the network remembers what it found out about one."""


def allreduce(
    env: WorkerEnvironment, value: T, reducer: Reducer = "sum", *, group: Group | None = None, algorithm: str = ""
) -> T:
    """Combine everybody's value; the same result on all members.

    :param value: a number, a numpy array (combined element by element, equally many everywhere; as ``left + right``
        does, so that a sum of truth values is an or, and int8 wraps) or any object.
    :param reducer: ``sum``, ``prod``, ``min``, ``max``, ``and``, ``or``, ``xor`` (logical), ``band``, ``bor``,
        ``bxor`` (bit by bit), ``MPI.SUM`` and the like of mpi4py, a numpy ufunc, or an associative function of two
        values that does not change them (arrays come in the shape that was given, read-only, and the result has it
        too). The order of combination depends on the number of members only.
    :param group: all workers when None. :param algorithm: see ``env.network.collectives(group).algorithms``.
    :raises OperatorError: unknown ``reducer`` or ``algorithm``, values that do not fit each other.
    :raises UserCodeError: ``reducer`` raised. :raises StepMismatchError: another member gave another form of value.
    """
    result: T = _reduction(_members(env, group, "allreduce"), "allreduce", value, reducer, 0, algorithm)
    return result


def reduce(
    env: WorkerEnvironment,
    value: T,
    reducer: Reducer = "sum",
    root: int = 0,
    *,
    group: Group | None = None,
    algorithm: str = "",
) -> T | None:
    """Combine everybody's value as :func:`allreduce` does; the result on rank ``root`` in the group, None elsewhere.

    Without ``group``, a rank is a worker id.
    """
    members = _members(env, group, "reduce")
    at = _root(members, root, "reduce")
    result: T | None = _reduction(members, "reduce", value, reducer, at, algorithm)
    return result


def scan(
    env: WorkerEnvironment, value: T, reducer: Reducer = "sum", *, group: Group | None = None, algorithm: str = ""
) -> T:
    """Combine the values of all members up to this one, in order of rank, as :func:`allreduce` does."""
    result: T = _reduction(_members(env, group, "scan"), "scan", value, reducer, 0, algorithm)
    return result


def reduce_scatter(
    env: WorkerEnvironment, values: Any, reducer: Reducer = "sum", *, group: Group | None = None, algorithm: str = ""
) -> Any:
    """Combine everybody's list of one value per member, value by value; the result number i on rank i.

    :param values: a list of one value per member, or an array whose first axis is a multiple of the number of members:
        rank i gets its i-th part, combined element by element, in this machine's byte order.
    """
    members = _members(env, group, "reduce_scatter")
    if not _has_memory(values, "reduce_scatter"):
        return members.run_objects(_make("reduce_scatter", reducer, 0, algorithm), values)
    import numpy

    call = _make("reduce_scatter", name_on_arrays(reducer) or reducer, 0, algorithm)
    send = _native(values)
    receive = numpy.empty(_part(members, "reduce_scatter", send), send.dtype)
    members.run(call, send, receive)
    return receive


def alltoall(env: WorkerEnvironment, parts: Any, *, group: Group | None = None, algorithm: str = "") -> Any:
    """Part i of everybody's ``parts`` to rank i; what came, by rank of the sender.

    :param parts: a list of one value per member (of any form and size), or an array whose first axis is a multiple of
        the number of members: an array of the same shape comes back, in this machine's byte order.
    """
    members = _members(env, group, "alltoall")
    call = _make("alltoall", "sum", 0, algorithm)
    if not _has_memory(parts, "alltoall"):
        return members.run_objects(call, parts)
    import numpy

    _part(members, "alltoall", parts)
    send = _native(parts)
    receive = numpy.empty(send.shape, send.dtype)
    members.run(call, send, receive)
    return receive


def broadcast(
    env: WorkerEnvironment, value: Any = None, root: int = 0, *, group: Group | None = None, algorithm: str = ""
) -> Any:
    """The value of rank ``root`` in the group on all members. What other members give is not looked at.

    :param algorithm: ``tree`` or ``chain``.
    """
    members = _members(env, group, "broadcast")
    at = _root(members, root, "broadcast")
    got = members.run_objects(_make("broadcast", "sum", at, algorithm), value if members.rank == at else None)
    return value if members.rank == at else got


def gather(env: WorkerEnvironment, value: T, root: int = 0, *, group: Group | None = None) -> list[T] | None:
    """Everybody's value, by rank, on rank ``root`` in the group; None on the others. Values may be of any form and
    size.
    """
    members = _members(env, group, "gather")
    at = _root(members, root, "gather")
    values: list[T] | None = members.run_objects(_make("gather", "sum", at, ""), value)
    if values is not None:
        values[at] = value
    return values


def allgather(env: WorkerEnvironment, value: T, *, group: Group | None = None, algorithm: str = "") -> list[T]:
    """Everybody's value, by rank, on all members. Values may be of any form and size.

    :param algorithm: ``direct``, or ``ring``: each passes on to the next only.
    """
    members = _members(env, group, "allgather")
    values: list[T] = members.run_objects(_make("allgather", "sum", 0, algorithm), value)
    values[members.rank] = value
    return values


def barrier(env: WorkerEnvironment, name: str = "", *, group: Group | None = None) -> None:
    """Wait until all members have called it. Over the data network; ``env.barrier`` goes through the job master.

    :param name: of the barrier: members that wait at another one are told so.
    """
    members = _members(env, group, "barrier")
    if name:
        members.run_objects(_make("allreduce", _same_name(name), 0, ""), name)
    else:
        members.run(_call("barrier"))


# -- how -------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _same_name(name: str) -> Callable[[str, str], str]:
    """A reducer that is called as the barrier is: names are part of what is compared between members."""

    def same(left: str, right: str) -> str:
        return left

    same.__name__ = f"barrier {name}"
    return same


def _members(env: WorkerEnvironment, group: Group | None, kind: str) -> Collectives:
    network = env.network
    where = network.world if group is None else group
    if network.worker_id not in where.members:
        raise OperatorError(
            f"worker {network.worker_id} called {kind} on a group it is not in",
            why=f"the group's members are {list(where.members)}",
            remedy="call it on members only",
        )
    return network.collectives(where)


def _make(operation: str, reducer: Reducer, root: int, algorithm: str) -> Call:
    name = name_of(reducer)
    if combiner(name or reducer) is None:
        raise OperatorError(
            f"{operation} has no reducer {short(reducer)}",
            why=f"a reducer is a function of two values or one of {', '.join(NAMES)}",
            remedy="give one of these",
        )
    try:
        return _call(operation, name or reducer, root, algorithm=algorithm)
    except TypeError:  # a function that cannot be hashed
        return Call(operation, reducer, root, algorithm=algorithm)


def _reduction(members: Collectives, operation: str, value: Any, reducer: Reducer, root: int, algorithm: str) -> Any:
    if not _is_buffer(value):
        return members.run_objects(_make(operation, reducer, root, algorithm), value)
    import numpy

    call = _make(operation, name_on_arrays(reducer) or reducer, root, algorithm)
    send = _aligned(numpy.ascontiguousarray(value))
    receive = numpy.empty(send.shape, send.dtype) if operation != "reduce" or members.rank == root else None
    members.run(call, send, receive)
    return receive


def _is_buffer(value: Any) -> bool:
    """Whether a value is an array of plain numbers, whose memory can be combined and cut as it is."""
    if not is_array(value) or value.ndim == 0 or value.dtype.kind not in "biufc" or not value.dtype.isnative:
        return False
    return not is_masked(value)


def _has_memory(value: Any, kind: str) -> bool:
    """Whether a value is an array without objects, which is cut along its first axis.

    :raises OperatorError: it is masked.
    """
    if not is_array(value) or value.ndim == 0 or value.dtype.hasobject or value.dtype.itemsize == 0:
        return False
    if is_masked(value):
        raise OperatorError(
            f"{kind} was given a masked array",
            why="an array is cut as memory: the mask would be lost, and what it hides would count",
            remedy="give a list of one array for each member (masked ones may be in it), or array.filled(value)",
        )
    return True


def is_masked(array: Any) -> bool:
    """Whether an array is more than its memory."""
    import numpy

    return isinstance(array, numpy.ma.MaskedArray)


def _native(array: Any) -> Any:
    """The array in one piece, aligned, and in this machine's byte order."""
    import numpy

    return _aligned(numpy.ascontiguousarray(array, array.dtype.newbyteorder("=")))


def _aligned(array: Any) -> Any:
    """The array, copied where it begins at no multiple of the size of its items."""
    return array if array.flags.aligned else array.copy()


def _part(members: Collectives, kind: str, array: Any) -> Sequence[int]:
    """The shape of one member's part of an array."""
    rows = len(array)
    if rows % members.size:
        raise OperatorError(
            f"{kind} was given an array of {rows} rows for {members.size} members",
            why="its first axis is cut into equal parts",
            remedy="give an array whose first axis is a multiple of the number of members, or a list of parts",
        )
    return rows // members.size, *array.shape[1:]


def _root(members: Collectives, root: int, kind: str) -> int:
    rank: object = root  # callers need not check types
    if not hasattr(type(rank), "__index__") or not 0 <= root < members.size:
        raise OperatorError(
            f"{kind} has no root {short(root)}",
            why=f"a root is a rank in the group, from 0 to {members.size - 1}, which are workers "
            f"{list(members.group.members)}",
            remedy="name one of these ranks as root, on all members the same; group.rank_of(worker) gives a worker's",
        )
    return index(root)
