"""Errors that several modules raise, and texts for them."""

from __future__ import annotations

import inspect
from types import FunctionType
from typing import TYPE_CHECKING, Any

from twister2.spec.errors import GraphError, UsageError
from twister2.spec.names import nearest
from twister2_tset.functions import wants_context
from twister2_tset.where import caller_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TWO = ("one", "other")
"""What reducers and comparators are called with,"""
ADDING = ("total", "record")
"""functions that fold,"""
PLACING = ("record", "n_partitions")
"""and partitioners."""


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


def check_function(
    function: Any,
    step: str,
    parameter: str = "function",
    given: tuple[str, ...] = ("record",),
    *,
    context: bool = False,
) -> None:
    """See that what a step was given can be called as the step calls it.

    :param given: what it is called with. :param context: it gets the context, too, when it asks for it.
    :raises UsageError: it cannot.
    """
    call = f"({', '.join(given)})"
    if not callable(function):
        raise UsageError(
            f"{step}: {parameter} is {short(function)}, {kind_of(function)}",
            why=f"it is called {parameter}{call}",
            remedy="give a function",
            where=f"{step} ({caller_line()})",
        )
    wrong = _refused(function, len(given), context=context)
    if wrong:
        name = getattr(function, "__qualname__", type(function).__qualname__).replace(".<locals>", "")
        takes = " ".join(str(inspect.signature(function, follow_wrapped=False)).split())
        several = "; a pair is one record: pair[0], pair[1]" if given == ("record",) and "missing" in wrong else ""
        raise UsageError(
            f"{step}: {name}{takes if len(takes) <= 80 else '(...)'} cannot be called with {call}",
            why=f"{parameter} is given {len(given)} argument{'s' if len(given) > 1 else ''} at each call: {wrong}",
            remedy=f"give a function that takes {call}{several}",
            where=f"{step} ({caller_line()})",
        )


def _refused(function: Any, n: int, *, context: bool) -> str:
    """Why a function cannot be called with ``n`` values; empty where it can, or nobody knows."""
    if type(function) is FunctionType:  # asked for each step: inspect takes 50 us
        code = function.__code__
        most = code.co_argcount
        plain = not code.co_kwonlyargcount and not (context and "context" in code.co_varnames[:most])
        if plain and most - len(function.__defaults__ or ()) <= n <= most:
            return ""
    try:
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):
        return ""  # what is written in C may not tell
    try:
        signature.bind(*[None] * n, **({"context": None} if context and wants_context(function) else {}))
    except TypeError as error:
        return str(error)
    return ""


def check_choice(
    value: Any,
    choices: Sequence[str],
    step: str,
    parameter: str,
    called: Mapping[str, str] | None = None,
    more: str = "",
) -> None:
    """See that a word is one of those that are known.

    :param called: what other systems call some of them (without ``_``), with the word for it here or what to do.
    :param more: what else may have been meant.
    :raises UsageError: it is not.
    """
    if isinstance(value, str) and value in choices:
        return
    plain = value.replace("_", "").replace(" ", "").lower() if isinstance(value, str) else ""
    known = (called or {}).get(plain)
    meant = known or nearest(plain, choices)
    remedy = f"give {meant!r}" if meant in choices else meant or "give one of them"
    raise UsageError(
        f"{step}: {parameter} is {short(value)}",
        why=f"it is one of {', '.join(choices)}",
        remedy=remedy if known or not more else f"{remedy}; {more}",
        where=f"{step} ({caller_line()})",
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
