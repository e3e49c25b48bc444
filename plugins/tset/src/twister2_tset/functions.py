"""Functions of the user's that ask for their surroundings: those with a parameter called ``context``."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import attrs

from twister2.spec.errors import UsageError
from twister2.spec.stored import Partition
from twister2.spec.values import Value

if TYPE_CHECKING:
    from twister2.spec.tasks import TaskContext

K_contra = TypeVar("K_contra", contravariant=True)
T_contra = TypeVar("T_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


@attrs.frozen(eq=False, repr=False)
class SetContext(Value):
    """What a function of a set is told when it has a parameter ``context``.

    :ivar index: number of the partition; :ivar partitions: how many there are.
    :ivar attempt: the job's attempt, from 1. :ivar inputs: what :meth:`TSet.add_input` gave, by name.
    :ivar config: the job's configuration, as ``env.config``; leave it as it is.
    """

    step: str
    index: int
    partitions: int
    worker_id: int
    n_workers: int
    attempt: int
    job_id: str
    log: logging.Logger
    inputs: Mapping[str, Partition]
    config: Mapping[str, Any]
    _lists: dict[str, list[Any]] = attrs.field(factory=dict, init=False, repr=False, eq=False)

    def input(self, name: str) -> list[Any]:
        """The records of an input: one list, the same at every call of a run; leave it as it is.

        :raises UsageError: the step was given none of that name.
        """
        found = self._lists.get(name)
        if found is None:
            if name not in self.inputs:
                known = ", ".join(map(repr, self.inputs))
                raise UsageError(
                    f"{self.step} has no input {name!r}",
                    why=f"it was given {known}" if known else "it was given none",
                    remedy=f"name one of these, or give it: add_input({name!r}, stored), directly behind the step",
                    where=self.step,
                )
            found = self._lists[name] = list(self.inputs[name].records())
        return found


class WithContext(Protocol[T_contra, R_co]):
    """A function of a record, a batch or a partition that asks for its surroundings."""

    def __call__(self, record: T_contra, /, *, context: SetContext) -> R_co: ...


class CollectsWithContext(Protocol[T_contra, R_co]):
    """A function of a partition and a collector that asks for its surroundings."""

    def __call__(self, records: T_contra, collect: Callable[[R_co], None], /, *, context: SetContext) -> object: ...


class OfGroupWithContext(Protocol[K_contra, T_contra, R_co]):
    """A function of a key and its records that asks for its surroundings."""

    def __call__(self, key: K_contra, records: T_contra, /, *, context: SetContext) -> R_co: ...


def wants_context(function: Callable[..., Any]) -> bool:
    """Whether a function has a parameter ``context`` without a default."""
    if type(function) is FunctionType and not function.__dict__:  # asked in every iteration: inspect takes 50 us
        code = function.__code__
        positional = code.co_argcount
        names = code.co_varnames[: positional + code.co_kwonlyargcount]
        if "context" not in names:
            return False
        at = names.index("context")
        if at < positional:
            return at < positional - len(function.__defaults__ or ())
        return "context" not in (function.__kwdefaults__ or ())
    try:
        parameter = inspect.signature(function).parameters.get("context")
    except (TypeError, ValueError):
        return False  # what is written in C may not tell
    if parameter is None or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        return False
    return parameter.default is parameter.empty


def bound(function: Callable[..., Any], context: TaskContext) -> Callable[..., Any]:
    """The function, with the context when it asks for it."""
    if not wants_context(function):
        return function
    return functools.partial(
        function,
        context=SetContext(
            step=context.vertex,
            index=context.index,
            partitions=context.parallelism,
            worker_id=context.worker_id,
            n_workers=context.n_workers,
            attempt=context.attempt,
            job_id=context.job_id,
            log=context.log,
            inputs=context.inputs,
            config=context.config,
        ),
    )
