"""Reducers of the user's that are watched: what they return must be what they were given."""

from __future__ import annotations

import functools
from numbers import Number
from typing import TYPE_CHECKING, Any

from twister2.spec.errors import OperatorError
from twister2.spec.reducers import name_of
from twister2_tset.problems import kind_of, short
from twister2_tset.where import line_of

if TYPE_CHECKING:
    from collections.abc import Callable


def checked(reducer: Any, step: str) -> Any:
    """The reducer, watched unless it is one by name (``"sum"``, ``operator.add``, a numpy ufunc...)."""
    if isinstance(reducer, str) or name_of(reducer) or type(reducer).__name__ == "ufunc":
        return reducer
    return watched(reducer, step)


def watched(reducer: Callable[[Any, Any], Any], step: str) -> Callable[[Any, Any], Any]:
    """The reducer, with an error for a result that is None or of another type than the values."""

    @functools.wraps(reducer, updated=())
    def combine(left: Any, right: Any) -> Any:
        result = reducer(left, right)
        kind = type(result)
        if kind is type(left) or kind is type(right) or _alike(left, right, result):
            return result
        raise wrong_result(reducer, step, left, right, result)

    return combine


def _alike(left: Any, right: Any, result: Any) -> bool:
    if left is None or right is None:
        return True  # a set that has None among its values may turn it into anything
    if isinstance(result, (Number, bool)) or hasattr(result, "dtype"):
        return isinstance(left, (Number, bool)) or hasattr(left, "dtype")
    return isinstance(result, type(left)) or isinstance(left, type(result)) or isinstance(right, type(result))


def wrong_result(reducer: Any, step: str, left: Any, right: Any, result: Any) -> OperatorError:
    """The error for a reducer that returned something else than it was given."""
    what = "None" if result is None else f"{short(result)}, {kind_of(result)},"
    return OperatorError(
        f"the reducer of {step} returned {what} for {short(left)} and {short(right)}",
        why="its results are combined further: they must be of the type of the values"
        + (", and a function without a return statement returns None" if result is None else ""),
        remedy="return the combined value; to combine to another type use aggregate(zero, add, merge)",
        where=line_of(reducer) if callable(reducer) else step,
        details={"step": step},
    )
