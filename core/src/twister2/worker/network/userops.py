"""A user's function as the op of a reduction: it is the same on all members, and must not communicate."""

from __future__ import annotations

import contextlib
import threading
from functools import partial
from operator import is_
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from twister2.spec.alike import Texts, captures, digest, wrapped
from twister2.spec.errors import UsageError
from twister2.spec.user_code import name_of_function

if TYPE_CHECKING:
    from collections.abc import Iterator

_texts = Texts(captured=True)
_known: WeakKeyDictionary[Any, tuple[str, list[Any], str]] = WeakKeyDictionary()
"""Names of functions, what they had captured, and digests."""
_SCALARS = (int, float, complex, str, bytes, bool, type(None))


def text_of(op: Any) -> str:
    """A function for a fingerprint: its name, and a digest of what it does and of the plain values that it captured."""
    function = getattr(op, "__func__", op)  # methods are made anew whenever they are asked for
    name = name_of_function(function)
    holds = [value for _, value, _ in captures(wrapped(function) or function)]
    try:
        known = _known.get(function)
        if known is not None and known[0] == name and _same(known[1], holds):
            return f"{name}#{known[2]}"
    except TypeError:  # nothing that could be remembered
        known = None
    text = digest(_texts.of(function))
    if not isinstance(function, partial) and all(isinstance(value, _SCALARS) for value in holds):
        with contextlib.suppress(TypeError):
            _known[function] = name, holds, text
    return f"{name}#{text}"


def _same(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(map(is_, one, other))


class _Inside(threading.local):
    op: str = ""


_inside = _Inside()


@contextlib.contextmanager
def running(op: str) -> Iterator[None]:
    """While a user's function runs in this thread."""
    _inside.op = op
    try:
        yield
    finally:
        _inside.op = ""


def check_outside() -> None:
    """Called when a step begins.

    :raises UsageError: it begins in a function that a reduction calls: the others would wait for ever.
    """
    if _inside.op:
        raise UsageError(
            f"the function {_inside.op} of a reduction makes a collective call",
            why="the reduction cannot go on before the function returns, and the other workers wait in it",
            remedy="let the function combine its two arguments and nothing else",
        )
