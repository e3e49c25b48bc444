"""The tree of configuration: tables and leaves, each leaf with its origin; later layers over earlier ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import attrs

from twister2.spec.values import Value


@attrs.frozen(eq=False, repr=False)
class Leaf(Value):
    """One value as a layer gave it.

    :ivar raw: the value. :ivar origin: for people: a file, ``"environment TWISTER2__..."``, ``"-o"``, ``"keyword"``.
    :ivar text: the value is text that is still to be parsed by the option's type (environment and ``-o``).
    """

    raw: Any
    origin: str
    text: bool = False


Node: TypeAlias = "Leaf | dict[str, Node]"
Tree: TypeAlias = "dict[str, Node]"


def from_data(data: Mapping[str, Any], origin: str) -> Tree:
    """A tree of nested mappings; everything else is a leaf, or one already, with an origin of its own."""

    def node(value: Any) -> Node:
        if isinstance(value, Mapping):
            return from_data(value, origin)
        return value if isinstance(value, Leaf) else Leaf(value, origin)

    return {str(key): node(value) for key, value in data.items()}


def given(value: Any, origin: str) -> Leaf | None:
    """One value with its origin; None where none was given."""
    return None if value is None else Leaf(value, origin)


def from_path(path: list[str], leaf: Leaf) -> Tree:
    """A tree that holds one leaf."""
    node: Node = leaf
    for key in reversed(path):
        node = {key: node}
    return node if isinstance(node, dict) else {}


def merge(below: Tree, above: Tree) -> Tree:
    """``above`` over ``below``: tables merge, scalars and lists replace."""
    merged = dict(below)
    for key, node in above.items():
        old = merged.get(key)
        merged[key] = merge(old, node) if isinstance(old, dict) and isinstance(node, dict) else node
    return merged


def leaves(node: Node, path: str = "") -> Iterator[tuple[str, Leaf]]:
    """All leaves with their dotted paths."""
    if isinstance(node, Leaf):
        yield path, node
        return
    for key, child in node.items():
        yield from leaves(child, f"{path}.{key}" if path else key)


def origin_of(node: Node) -> str:
    """Where a leaf, or the last leaf of a table, came from."""
    origin = ""
    for _, leaf in leaves(node):
        origin = leaf.origin
    return origin
