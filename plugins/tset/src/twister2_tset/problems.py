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


def nothing_to_reduce(where: str) -> GraphError:
    """The error for a reduction of no records without an initial value."""
    return GraphError(
        "reduce: the set has no records",
        why="nothing cannot be combined to one value",
        remedy="give reduce(..., initial=value), or make sure that there are records",
        where=where,
    )


def check_names(names: Any, step: str) -> None:
    """See that names are texts, and that there is one.

    :raises UsageError: they are not.
    """
    wrong = [name for name in names if not isinstance(name, str) or not name]
    if wrong or not names:
        raise UsageError(
            f"{step}: {short(wrong[0]) + ' is no name' if wrong else 'nothing is named'}",
            why="names are texts that are not empty",
            remedy=f'give names: {step}("name")',
            where=step,
        )


def empty_set(step: str, where: str, of: str = "") -> GraphError:
    """The error for a value that no records have.

    :param of: what of a record was meant, when it was not the record itself.
    """
    return GraphError(
        f"{step}: the set has no records" + (f" with a value of {of}" if of else ""),
        why=f"{step} of nothing is nothing" + (", and missing values (None) are left out" if of else ""),
        remedy="ask is_empty() first, or make sure that there are records",
        where=where,
    )


def exclusive(step: str, **given: Any) -> None:
    """See that at most one of several parameters is given.

    :raises UsageError: there are more.
    """
    both = [name for name, value in given.items() if value is not None]
    if len(both) > 1:
        raise UsageError(
            f"{step}: {' and '.join(both)} are given together",
            why="they say the same in different ways",
            remedy=f"give {' or '.join(both)}",
            where=step,
        )


def check_fraction(value: Any) -> None:
    """See that the fraction of a sample is one.

    :raises UsageError: it is no number from 0 to 1.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise UsageError(
            f"sample: fraction is {short(value)}",
            why="it is the probability with which a record is taken",
            remedy="give a number from 0 to 1",
            where="sample",
        )
