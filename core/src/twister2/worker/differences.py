"""What to do about members of a group that are in different calls: it depends on what differs.

The shape of a collective call on arrays or objects is made of words ``name=value`` (:func:`words`), so that what
differs can be named. The table in :mod:`twister2.spec.collectives` tells the same to people who write programs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

REMEDIES: Final[Mapping[str, str]] = {
    "call": "let all workers take the same branch around collective calls",
    "spelling": "give arrays on all members, or other values on all (with Harp: one spelling on all, upper case for "
    "arrays, lower case for objects)",
    "reducer": "give the same reducer (op of Harp) on all members; a function counts as another one when its code, or "
    "a plain value that it has captured, differs",
    "root": "give the same root, a rank in the group, on all members",
    "dtype": "give arrays of one dtype on all members: convert by array.astype",
    "shape": "give arrays of one shape on all members: cut or pad them, or reshape what only lies in another order",
    "counts": "give the same counts on all members; or on none, if all parts are of one size",
    "n": "give equally many elements on all members; where parts differ in size, give [array, counts] on all",
    "algorithm": "name the same algorithm on all members, or on none",
    "order": "give the same order, a list of all ranks, on all members",
    "graph": "build the same graph on all workers: names, tasks, edges, functions and the number of records that a "
    "source is given must not depend on the worker",
    "name": "give the same name on all workers",
    "options": "give the same options on all workers",
}
"""By what differs; looked at in this order, as the first one tends to be the cause of the others."""

OBJECTS: Final = "objects"
"""First word of a call on objects."""
ARRAYS: Final = "arrays"
"""Of a barrier of the collectives on arrays, which has no other words: it is not the barrier of the job master."""

_NAMED: Final = frozenset({"barrier", "exchange", "exchange_objects", "broadcast_object"})
_CUT: Final = "~"
"""Stands before the digest at the end of a text that a step board had no room for."""
_LINES: Final = "; if these were to be two different calls, let all workers make the same calls in the same order"


def words(**known: object) -> str:
    """The shape of a call: what must be equal on all members, as ``name=value``, without what is None or empty."""
    return " ".join(f"{name}={value}" for name, value in known.items() if value is not None and value != "")


def remedy(one: tuple[str, str, str], other: tuple[str, str, str]) -> str:
    """What to do about two members under one step number.

    :param one, other: kind, shape and line of the step of each.
    """
    found = _difference(one[0], one[1], other[0], other[1])
    same_call = found == "call" or one[2] == other[2]
    return REMEDIES[found] if same_call else REMEDIES[found] + _LINES


def _difference(kind: str, shape: str, other_kind: str, other_shape: str) -> str:
    """A key of :data:`REMEDIES`."""
    if kind != other_kind:
        return "call"
    if kind == "run":
        return "graph"
    if kind in _NAMED and not {shape, other_shape} & {ARRAYS, OBJECTS}:
        return "name"
    if kind == "barrier":
        return "call"
    mine, theirs = _known(shape), _known(other_shape)
    if mine is None or theirs is None:
        return "options"
    if (OBJECTS in mine) != (OBJECTS in theirs):
        return "spelling"
    differ = {name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name)}
    return next((name for name in REMEDIES if name in differ), "options")


def _known(shape: str) -> dict[str, str] | None:
    """The words of a shape by name; None when these are not (all) words of a call on arrays or objects."""
    found: dict[str, str] = {}
    for word in shape.partition(" (")[0].split():
        name, sign, value = word.partition("=")
        if word == OBJECTS:
            found[word] = ""
        elif sign and name in REMEDIES and _CUT not in value:
            found[name] = value
        elif _CUT in word:
            break  # what follows, and a part of this one, is a digest
        else:
            return None
    return found
