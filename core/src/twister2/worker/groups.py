"""Groups in the words of messages: their numbers mean nothing to a user, their members do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SHOWN = 8
"""Workers that are named of a large group."""


def listed(workers: Iterable[int]) -> str:
    """Worker ids, the first few of many: ``0, 2, 5``."""
    ids = list(workers)
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return ", ".join(map(str, ids[:SHOWN])) + more


def named(workers: Iterable[int]) -> str:
    """``worker 3``, ``workers 0, 2, 5``."""
    ids = list(workers)
    return f"worker{'s' * (len(ids) != 1)} {listed(ids)}"


def of_group(number: int, members: Iterable[int], place: int = 0, line: str = "") -> str:
    """What follows "step 3": nothing for the group of all workers, else who is in it, in the group's order.

    :param place, line: where several groups have these members: the how manyeth it is, from 1, and where it was made.
    """
    if not number:
        return ""
    ids = list(members)
    if not ids:
        return f" of group {number}"
    if not place:
        return f" of the group of {named(ids)}"
    return f" of group {place} of {named(ids)}" + (f", made at {line}" if line else "")
