"""A user's function as the op of a reduction: it is the same on all members, and must not communicate."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from twister2.spec.alike import Texts, digest
from twister2.spec.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

_texts = Texts()
_known: WeakKeyDictionary[Any, tuple[str, str]] = WeakKeyDictionary()
"""Names and digests of functions."""


def name_of_function(op: Any) -> str:
    """What an op that is no name is called in messages."""
    return getattr(op, "__name__", None) or type(op).__name__


def text_of(op: Any) -> str:
    """A function for a fingerprint: its name, and a digest of what it does."""
    function = getattr(op, "__func__", op)  # methods are made anew whenever they are asked for
    name = name_of_function(function)
    try:
        known = _known.get(function)
        if known is None or known[0] != name:
            known = _known[function] = name, digest(_texts.of(function))
    except TypeError:  # nothing that could be remembered
        known = name, digest(_texts.of(function))
    return f"{name}#{known[1]}"


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
