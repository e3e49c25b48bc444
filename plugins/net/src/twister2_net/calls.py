"""Collectives for worker programs: one call, one numbered step, on numbers, arrays and any other object.

Numpy arrays travel as their memory and are never pickled. What was given may be changed again once the call has
returned. Arrays that come from another worker are read-only (they lie in the transport's buffer); the result of a
reduction is new and writable.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from twister2.spec.batch import is_array
from twister2.spec.channel import HeaderKind
from twister2.spec.errors import OperatorError
from twister2_net.problems import short, user_error
from twister2_net.reducers import NAMES, Reducer, combiner_for
from twister2_net.trees import (
    ALLREDUCE,
    Collective,
    Steps,
    allreduce_for,
    flat_reduce,
    reduce_for,
    tree_broadcast,
)

if TYPE_CHECKING:
    from twister2.spec.environment import WorkerEnvironment
    from twister2.spec.network import Group

T = TypeVar("T")
Op = str | Callable[[Any, Any], Any]

_DATA = HeaderKind.DATA
_combiners: dict[str, Reducer] = {}
_shapes: dict[tuple[str, str], str] = {}


def allreduce(
    env: WorkerEnvironment, value: T, op: Op = "sum", *, group: Group | None = None, algorithm: str = ""
) -> T:
    """Combine everybody's value; the same result on all members.

    :param value: a number, a numpy array (combined element by element, same shape everywhere) or any object.
    :param op: ``sum``, ``prod``, ``min``, ``max``, ``and``, ``or``, a numpy ufunc, or an associative and commutative
        function of two values that does not change them. The order of combination depends on ranks only.
    :param group: all workers when None. :param algorithm: a name of :data:`twister2_net.trees.ALLREDUCE`.
    :raises OperatorError: unknown ``op`` or ``algorithm``, arrays of different shape.
    :raises UserCodeError: ``op`` raised.
    """
    combine = _combiner(op, "allreduce")
    make = _algorithm(algorithm) if algorithm else None

    def steps(rank: int, size: int) -> Steps:
        return (make or allreduce_for(size))(rank, size, _shown(value), combine)

    result: T = _fresh(_collective(env, "allreduce", _shape(op, value, algorithm), steps, group), value)
    return result


def reduce(env: WorkerEnvironment, value: T, op: Op = "sum", root: int = 0, *, group: Group | None = None) -> T | None:
    """Combine everybody's value as :func:`allreduce` does; the result on worker ``root``, None on the others."""
    combine = _combiner(op, "reduce")
    at = _rank_of(env, group, root, "reduce")

    def steps(rank: int, size: int) -> Steps:
        return reduce_for(size)(rank, size, _shown(value), combine, at)

    result = _collective(env, "reduce", f"{_shape(op, value)} to {root}", steps, group)
    return None if result is None else _fresh(result, value)


def broadcast(env: WorkerEnvironment, value: Any = None, root: int = 0, *, group: Group | None = None) -> Any:
    """The value of worker ``root`` on all members. What other members give is not looked at."""
    at = _rank_of(env, group, root, "broadcast")
    mine = env.network.worker_id == root

    def steps(rank: int, size: int) -> Steps:
        return tree_broadcast(rank, size, _Box(_shown(value)) if mine else None, at)

    box = _collective(env, "broadcast", f"from {root}", steps, group)
    return value if mine else box.value


def gather(env: WorkerEnvironment, value: T, root: int = 0, *, group: Group | None = None) -> list[T] | None:
    """Everybody's value, by rank, on worker ``root``; None on the others."""
    at = _rank_of(env, group, root, "gather")

    def steps(rank: int, size: int) -> Steps:
        return flat_reduce(rank, size, _Box(_shown(value)), _append, at)

    result = _collective(env, "gather", f"to {root}", steps, group)
    if result is None:
        return None
    return _unbox(result, value, at)


def allgather(env: WorkerEnvironment, value: T, *, group: Group | None = None) -> list[T]:
    """Everybody's value, by rank, on all members."""

    def steps(rank: int, size: int) -> Steps:
        return ALLREDUCE["exchange"](rank, size, _Box(_shown(value)), _append)

    where = group or env.network.world
    result = _collective(env, "allgather", "", steps, group)
    return _unbox(result, value, where.rank_of(env.network.worker_id))


def barrier(env: WorkerEnvironment, name: str = "", *, group: Group | None = None) -> None:
    """Wait until all members have called it. Over the data network; ``env.barrier`` goes through the job master."""

    def steps(rank: int, size: int) -> Steps:
        return allreduce_for(size)(rank, size, 0, max)

    _collective(env, "net.barrier", name, steps, group)


# -- how -------------------------------------------------------------------------------------------------------------


class _Box:
    """A value in transit that may be anything, None included. An array in it still travels as its memory."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return _Box, (self.value,)


class _Boxes(list[Any]):
    """Values collected so far, by rank."""


def _append(left: Any, right: Any) -> _Boxes:
    boxes = left if isinstance(left, _Boxes) else _Boxes([left.value])
    boxes.append(right.value)
    return boxes


def _unbox(result: Any, value: Any, me: int) -> list[Any]:
    values = list(result) if isinstance(result, _Boxes) else [result.value]
    values[me] = value
    return values


def _collective(
    env: WorkerEnvironment, kind: str, shape: str, steps: Callable[[int, int], Steps], group: Group | None
) -> Any:
    network = env.network
    if group is None:
        group = network.world
    me = group.rank_of(network.worker_id)
    if me < 0:
        raise OperatorError(
            f"worker {network.worker_id} called {kind} on a group it is not in",
            why=f"the group's members are {list(group.members)}",
            remedy="call it on members only",
        )
    with network.step(kind, shape, group=group) as step:
        members = group.members
        port = network.open_port(step, 0, members, members)
        run = Collective(steps(me, len(members)), port, me)
        if not run.done:
            network.wait_until(run.advance, kind)
        return run.result


def _shown(value: Any) -> Any:
    """What is sent of an argument: a read-only view of an array, so that the caller's own stays writable."""
    if not is_array(value) or not value.flags.writeable:
        return value
    view = value.view()
    view.flags.writeable = False
    return view


def _fresh(result: Any, value: Any) -> Any:
    """A result that is the caller's own: never the argument, nor a transport's buffer."""
    if is_array(result) and (not result.flags.writeable or result is value or result.base is not None):
        return result.copy()
    return result


def _combiner(op: Op, kind: str) -> Reducer:
    if isinstance(op, str):
        known = _combiners.get(op)
        if known is None:
            known = _combiners[op] = _guarded(combiner_for(op, kind), op, kind)
        return known
    return _guarded(combiner_for(op, kind), op, kind)


def _guarded(combine: Reducer, op: Op, kind: str) -> Reducer:
    def guarded(left: Any, right: Any) -> Any:
        try:
            return combine(left, right)
        except Exception as error:
            if op in NAMES if isinstance(op, str) else False:
                raise OperatorError(
                    f"{kind} cannot combine {_form(left)} and {_form(right)} by '{op}'",
                    why=f"{type(error).__name__}: {error}",
                    remedy="give values of the same type and shape on all workers",
                    details={"left": short(left), "right": short(right)},
                ) from error
            raise user_error(error, "function", kind, -1, (left, right)) from error

    return guarded


def _form(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return f"a {type(value).__name__}" + (f" of shape {shape}" if shape is not None else f" {short(value, 40)}")


def _shape(op: Op, value: Any, algorithm: str = "") -> str:
    """What must be the same on all members: the operation, and whether it is on arrays of one dtype or on objects."""
    name = op if isinstance(op, str) else getattr(op, "__name__", type(op).__name__)
    form = value.dtype.str if is_array(value) else "object"
    key = (name + algorithm, form)
    shape = _shapes.get(key)
    if shape is None:
        if len(_shapes) > 1000:
            _shapes.clear()
        shape = _shapes[key] = f"{name} {form} {algorithm}".rstrip()
    return shape


def _algorithm(name: str) -> Callable[[int, int, Any, Reducer], Steps]:
    if name not in ALLREDUCE:
        raise OperatorError(
            f"there is no algorithm '{name}' for allreduce",
            why=f"the algorithms are {', '.join(ALLREDUCE)}",
            remedy="give one of these names, or none",
        )
    return ALLREDUCE[name]


def _rank_of(env: WorkerEnvironment, group: Group | None, worker: int, kind: str) -> int:
    members = (group or env.network.world).members
    if worker not in members:
        raise OperatorError(
            f"{kind} has no root {worker}", why=f"the workers are {list(members)}", remedy="name one of these as root"
        )
    return members.index(worker)
