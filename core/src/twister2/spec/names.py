"""Names that were mistyped: which one was probably meant. For the texts of errors, of the core and of plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """The most similar of ``choices``, None when nothing is similar."""
    import difflib

    # Of a name of two or three letters one may be wrong.
    found = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.5 if len(name) <= 3 else 0.6)
    return found[0] if found else None


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` to be put behind a sentence, empty when nothing is similar."""
    near = nearest(name, choices)
    return f"; did you mean {near!r}?" if near else ""
