"""Errors of functions of users, told in one way: which function, what it was given, its line and its traceback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.spec.batch import is_array
from twister2.spec.errors import OperatorError, Twister2Error, UserCodeError
from twister2.spec.reducers import FUNCTIONS, name_of
from twister2.spec.tracebacks import short, user_line, user_traceback

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["form_of_value", "function_raised", "name_of_function", "not_combined", "why_and_remedy"]


def name_of_function(function: Any) -> str:
    """What a function is called in messages."""
    return getattr(function, "__name__", None) or type(function).__name__


def why_and_remedy(error: BaseException, why: str, remedy: str) -> tuple[str, str]:
    """Of an error of a program, as they are given; of a write into an array that is the system's, what is to be known
    of those.
    """
    text = str(error) if isinstance(error, ValueError) else ""
    if not text.endswith("is read-only") or not ("array" in text or "destination" in text):  # numpy's words
        return why, remedy
    return (
        f"{why}; arrays that were sent on, or came from elsewhere, are read-only, as others may be looking at them",
        "write into a copy of it (array.copy()), or into a new array each time",
    )


def function_raised(
    function: str, error: Exception, given: str, *, place: str = "", details: Mapping[str, Any] | None = None
) -> UserCodeError:
    """The error for a function of the user's that raised.

    :param function: what it is, in words. :param given: what it was given, in words. :param place: where in the graph
        or of which operator; its own line comes behind. :param details: of the error, beside its traceback.
    """
    line = user_line(error)
    why, remedy = why_and_remedy(error, f"it was given {given}", "see the traceback, and mend the function or the data")
    return UserCodeError(
        f"{function} raised {type(error).__name__}: {error}".removesuffix(": "),
        why=why,
        remedy=remedy,
        where=", ".join(filter(None, (place, line))),
        details={**(details or {}), "traceback": user_traceback(error, keep=False)},
    )


def not_combined(what: str, op: Any, left: Any, right: Any, error: Exception) -> Twister2Error:
    """The error for two values that could not be combined, by a reduction with a name or by a function of the user's.

    :param what: whose values they are: ``allreduce``, ``partition 3 of a table``.
    """
    given = f"{form_of_value(left)} and {form_of_value(right)}"
    details = {"left": short(left), "right": short(right)}
    name = name_of(op)
    if name not in FUNCTIONS:
        return function_raised(f"the function {name_of_function(op)} of {what}", error, given, details=details)
    return OperatorError(
        f"{what}: '{name}' cannot combine {given}",
        why=f"{type(error).__name__}: {error}".removesuffix(": "),
        remedy="give values of one type and shape, or a function that takes these",
        details=details,
    )


def form_of_value(value: Any) -> str:
    """A value in a few words: arrays by dtype and shape, others by type and beginning."""
    if is_array(value):
        return f"an array of {value.dtype} with shape {value.shape}"
    return f"a {type(value).__name__}, {short(value, 40)}"
