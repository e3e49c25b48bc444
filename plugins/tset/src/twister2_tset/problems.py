"""Errors that several modules raise, and texts for them."""

from __future__ import annotations

from typing import Any

from twister2.spec.errors import GraphError, UsageError


def short(value: Any, limit: int = 80) -> str:
    """``repr`` on one line, cut; never raises."""
    try:
        text = " ".join(repr(value).split())
    except Exception as error:
        return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def kind_of(value: Any) -> str:
    """``"a str"``: the type of a value, for a sentence."""
    name = type(value).__qualname__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def check_function(function: Any, step: str, parameter: str = "function") -> None:
    """See that what a step was given can be called.

    :raises UsageError: it cannot.
    """
    if not callable(function):
        raise UsageError(
            f"{step}: {parameter} is {short(function)}, {kind_of(function)}",
            why="it is called for every record or batch",
            remedy="give a function",
            where=step,
        )


def check_count(value: Any, step: str, parameter: str, least: int = 1) -> None:
    """See that a count is a whole number, ``least`` or more.

    :raises UsageError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(
            f"{step}: {parameter} is {short(value)}",
            why=f"it is a whole number, {least} or more",
            remedy=f"give {parameter}={least} or more",
            where=step,
        )


def nothing_to_reduce(step: str) -> GraphError:
    """The error for a reduction of no records without an initial value."""
    return GraphError(
        "reduce: the set has no records",
        why="nothing cannot be combined to one value",
        remedy="give reduce(..., initial=value), or make sure that there are records",
        where=step,
    )
