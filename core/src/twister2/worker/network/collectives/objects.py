"""Collectives on picklable objects: a pattern of :mod:`twister2.spec.patterns` over a port, as one step of the group.

Numpy arrays among the objects travel as their memory; those that come from another member are read-only, but for the
result of a reduction, which is the caller's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.spec import patterns
from twister2.spec.batch import is_array
from twister2.spec.collectives import ObjectRequest
from twister2.spec.errors import OperatorError, Twister2Error
from twister2.spec.reducers import FUNCTIONS, Reducer, combiner, name_of
from twister2.spec.tracebacks import short
from twister2.spec.user_code import name_of_function, not_combined
from twister2.worker.differences import OBJECTS, words
from twister2.worker.network.collectives.requests import OpenCall
from twister2.worker.network.userops import running, text_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from twister2.spec.collectives import Call
    from twister2.spec.patterns import Run, Steps
    from twister2.worker.network.network import WorkerNetwork
    from twister2.worker.network.steps import NumberedStep


class ObjectCall(OpenCall, ObjectRequest):
    """A pattern that was started and not waited for yet."""

    __slots__ = ("_fresh", "_run")

    def __init__(
        self, network: WorkerNetwork, step: NumberedStep, run: Run, fresh: Callable[[Any], Any] | None = None
    ) -> None:
        self._run, self._fresh = run, fresh
        super().__init__(network, step, run.advance, lambda: waits(step, run), None, polled=False)

    @property
    def result(self) -> Any:
        result, self._fresh = self._run.result if self._fresh is None else self._fresh(self._run.result), None
        self._run.result = result
        return result


def waits(step: NumberedStep, run: Run) -> str:
    """What a pattern waits for, for the status."""
    known = run.wants is not None and run.wants != patterns.ANY
    whom = f": for worker {step.group.members[run.wants or 0]}" if known else ""
    return f"{step.fingerprint.kind}, step {step.number}{whom}"


_REDUCTIONS = frozenset({"reduce", "allreduce", "scan", "exscan", "reduce_scatter"})
_ROOTED = frozenset({"broadcast", "reduce", "gather", "scatter"})
_LISTS = frozenset({"alltoall", "reduce_scatter"})
"""Operations that take one value for each member, from each member."""
_OWN_PARTS = frozenset({"gather", "allgather", "alltoall"})
"""Operations that give a list which has what this member gave itself."""


def steps_of(call: Call, rank: int, size: int, value: Any) -> Steps:
    """What this rank does for ``call``.

    :raises OperatorError: unknown operation, op, algorithm or root; not one value for each member.
    """
    operation = call.operation
    make = _MAKERS.get(operation)
    if make is None:
        raise _wrong(f"there is no collective '{call.operation}'", f"there are {', '.join(sorted(_MAKERS))}")
    root: object = call.root  # callers need not check types
    if not (isinstance(root, int) and 0 <= root < size):
        raise _wrong(f"{operation} has no root {root!r}", f"the group has ranks 0 to {size - 1}")
    if call.algorithm and call.algorithm not in (known := ALGORITHMS.get(operation, ())):
        raise _wrong(
            f"there is no algorithm '{call.algorithm}' for {operation} of objects",
            f"the algorithms are {', '.join(known)}" if known else "there is one way only, without a name",
        )
    listed = operation in _LISTS or (operation == "scatter" and rank == call.root)
    if listed and (not hasattr(value, "__len__") or len(value) != size):
        raise _wrong(
            f"{operation} needs one value for each of the {size} members",
            f"rank {rank} gave {short(value, 60)}",
        )
    combine = guarded(call) if operation in _REDUCTIONS else None
    return make(call, rank, size, [_shown(one) for one in value] if listed else _shown(value), combine)


def shape_of(call: Call, value: Any) -> str:
    """What must be equal on all members: operation and root, and for reductions the op and the kind of values."""
    root, algorithm = call.root if call.operation in _ROOTED else None, call.algorithm
    if call.operation not in _REDUCTIONS:
        return f"{OBJECTS} {words(root=root, algorithm=algorithm)}".rstrip()
    form = value.dtype.str if is_array(value) else "none"
    op = name_of(call.op) or text_of(call.op)
    return f"{OBJECTS} {words(reducer=op, root=root, dtype=form, algorithm=algorithm)}"


def fresh(call: Call, rank: int, result: Any, value: Any) -> Any:
    """A reduction's result is the caller's own: never the argument, nor a transport's buffer. An array that a member
    gave itself is a copy: it may change what it gave.
    """
    operation = call.operation
    if operation in _OWN_PARTS and result is not None:
        result[rank] = _copied(result[rank])
        return result
    if operation == "scatter" and rank == call.root:
        return _copied(result)
    if operation not in _REDUCTIONS:
        return result
    if not is_array(result):
        return _boxed(result) if is_array(value) and not value.ndim else result
    if result is value or not result.flags.writeable or result.base is not None:
        return result.copy()
    return result


def _boxed(result: Any) -> Any:
    """Of 0-dimensional arrays numpy makes numbers: an array again, as one member alone has it."""
    import numpy

    return numpy.asarray(result) if isinstance(result, numpy.generic) else result


def _copied(part: Any) -> Any:
    return part.copy() if is_array(part) else part


def guarded(call: Call) -> Reducer:
    """The function of ``call.op``; what it raises says what was combined.

    :raises OperatorError: unknown op.
    """
    op, operation = call.op, call.operation
    combine = combiner(op)
    if combine is None:
        raise _wrong(f"{operation} has no op {short(op, 60)}", f"an op is a function or one of {', '.join(FUNCTIONS)}")

    named = name_of(op) in FUNCTIONS
    text = name_of_function(op)

    def combined(left: Any, right: Any) -> Any:
        try:
            if named:
                return combine(left, right)
            with running(text):
                return combine(left, right)
        except Twister2Error:
            raise
        except Exception as error:
            raise not_combined(operation, op, left, right, error) from error

    return combined


def _reduce_scatter(call: Call, rank: int, size: int, values: Any, combine: Any) -> Steps:
    came = yield from patterns.alltoall(rank, size, values)
    result = came[0]
    for part in came[1:]:
        result = combine(result, part)
    return result


def _allreduce(call: Call, rank: int, size: int, value: Any, combine: Any) -> Steps:
    pattern = patterns.ALLREDUCE[call.algorithm] if call.algorithm else patterns.allreduce_for(size)
    return pattern(rank, size, value, combine)


def _reduce(call: Call, rank: int, size: int, value: Any, combine: Any) -> Steps:
    pattern = patterns.REDUCE[call.algorithm] if call.algorithm else patterns.reduce_for(size)
    return pattern(rank, size, value, combine, call.root)


def _broadcast(call: Call, rank: int, size: int, value: Any, combine: Any) -> Steps:
    return patterns.BROADCAST[call.algorithm or "tree"](rank, size, value, call.root)


_MAKERS: dict[str, Callable[[Call, int, int, Any, Any], Steps]] = {
    "barrier": lambda call, rank, size, value, combine: patterns.allreduce_for(size)(rank, size, 0, max),
    "broadcast": _broadcast,
    "reduce": _reduce,
    "allreduce": _allreduce,
    "scan": lambda call, rank, size, value, combine: patterns.scan(rank, size, value, combine),
    "exscan": lambda call, rank, size, value, combine: patterns.exscan(rank, size, value, combine),
    "reduce_scatter": _reduce_scatter,
    "gather": lambda call, rank, size, value, combine: patterns.gather(rank, size, value, call.root),
    "allgather": lambda call, rank, size, value, combine: patterns.ALLGATHER[call.algorithm or "direct"](
        rank, size, value
    ),
    "scatter": lambda call, rank, size, value, combine: patterns.scatter(rank, size, value, call.root),
    "alltoall": lambda call, rank, size, value, combine: patterns.alltoall(rank, size, value),
}

ALGORITHMS: dict[str, tuple[str, ...]] = {
    "allgather": tuple(patterns.ALLGATHER),
    "allreduce": tuple(patterns.ALLREDUCE),
    "reduce": tuple(patterns.REDUCE),
    "broadcast": tuple(patterns.BROADCAST),
}


def _shown(value: Any) -> Any:
    """What is sent of an argument: a read-only view of an array, so that the caller's own stays writable."""
    if not is_array(value) or not value.flags.writeable:
        return value
    view = value.view()
    view.flags.writeable = False
    return view


def _wrong(what: str, why: str) -> OperatorError:
    return OperatorError(what, why=why, remedy="correct the call, in the same way on all members")
