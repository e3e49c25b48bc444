"""Running a user's function as the op of a reduction: it sees read-only arrays and must not communicate."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from twister2.spec.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator


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
