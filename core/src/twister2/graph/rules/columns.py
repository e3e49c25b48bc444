"""Rule ``columns``: sources read the columns that somebody looks at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import attrs

from twister2.graph.rules.rule import Rule
from twister2.graph.rules.ways import hands_on
from twister2.graph.schemas import schemas

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twister2.graph.catalog import Catalog
    from twister2.graph.logical import LogicalEdge, LogicalPlan, LogicalVertex

Wanted: TypeAlias = "tuple[str, ...] | None"
"""Columns that somebody looks at; None for all."""


class Columns(Rule):
    """Leaves out columns where all that follow a source say what they look at."""

    name: ClassVar[str] = "columns"
    explanation: ClassVar[str] = "a source reads no columns that nobody behind it looks at"

    def apply(self, plan: LogicalPlan, catalog: Catalog) -> tuple[LogicalPlan, list[str]]:
        """Ask every source that can for fewer columns, and the steps that select some."""
        if all(vertex.declares.with_columns is None for vertex in plan.vertices if vertex.kind == "source"):
            return plan, []
        known = schemas(plan, catalog)
        wanted = _wanted(plan, catalog, known)
        vertices, lines = [], []
        for vertex in plan.vertices:
            columns = _given_by(vertex, wanted[vertex.name], known.get(vertex.name))
            make = None
            if columns is not None and vertex.declares.with_columns is not None:
                make = vertex.declares.with_columns(columns)
            if make is None or columns is None:
                vertices.append(vertex)
                continue
            listed = ", ".join(columns)
            vertices.append(attrs.evolve(vertex.made_by(make), shows=f"{vertex.shows}, columns {listed}"))
            lines.append(f"{vertex.name} {'reads' if vertex.kind == 'source' else 'selects'} {listed} only")
        return (attrs.evolve(plan, vertices=tuple(vertices)), lines) if lines else (plan, [])


def _wanted(plan: LogicalPlan, catalog: Catalog, known: Mapping[str, Any]) -> Mapping[str, Wanted]:
    """Of what each vertex gives, the columns that those behind it look at."""
    found: dict[str, Wanted] = {}
    asked: dict[str, list[Wanted]] = {}
    for vertex in reversed(plan.vertices):
        wanted = found[vertex.name] = _all_of(asked.get(vertex.name, [None])[::-1])
        for edge in plan.inputs(vertex.name):
            looked_at = _looked_at(vertex, wanted, known.get(vertex.name))
            needed = _read_by(edge, catalog, looked_at, [known.get(one) for one in edge.sources])
            for source, columns in zip(edge.sources, needed, strict=True):
                asked.setdefault(source, []).append(columns)
    return found


def _given_by(vertex: LogicalVertex, wanted: Wanted, schema: Any) -> Wanted:
    """The columns that a vertex is to give; None for all that it has. What selects some tells who asks for others that
    they are missing, so that it has to be known that they are not.
    """
    if vertex.declares.selects and (schema is None or wanted is None or not set(wanted) <= set(schema.names)):
        return None
    return _fewer(wanted, schema)


def _looked_at(vertex: LogicalVertex, wanted: Wanted, schema: Any) -> Wanted:
    """The columns of what comes to a vertex that it, or who follows, looks at; ``wanted``, ``schema``: of what it
    gives.
    """
    said = vertex.declares
    if said.reads is not None:
        fewer = _given_by(vertex, wanted, schema) if said.selects and said.with_columns is not None else None
        return said.reads if fewer is None else fewer
    own = said.looks_at
    if said.passes_on or said.predicate:
        own = tuple(column for column, _, _ in said.predicate)
    return None if own is None else _all_of([own, wanted])


def _read_by(edge: LogicalEdge, catalog: Catalog, wanted: Wanted, known: Sequence[Any]) -> Sequence[Wanted]:
    """The same of each input of an edge; ``wanted``: of what it delivers."""
    info = catalog.info(edge.operator)
    if info is not None and info.reads is not None:
        return info.reads(edge.options, wanted, known)
    return [wanted if hands_on(edge, catalog) else None] * len(edge.sources)


def _all_of(several: Sequence[Wanted]) -> Wanted:
    found: dict[str, None] = {}
    for columns in several:
        if columns is None:
            return None
        found.update(dict.fromkeys(columns))
    return tuple(found)


def _fewer(wanted: Wanted, schema: Any) -> Wanted:
    """The columns to read, in the order that they have: in a join the first of two may take the other's name. None
    where all are wanted. To count rows takes a column, too: one that is quickly read.
    """
    if wanted is None or schema is None:
        return wanted or None
    if set(schema.names) <= set(wanted):
        return None
    known = [name for name in schema.names if name in wanted]
    return tuple(dict.fromkeys([*known, *wanted])) or (min(schema, key=_width).name,)


def _width(field: Any) -> float:
    """Bits of a value; of text, lists and the like it is not known."""
    try:
        return float(field.type.bit_width)
    except ValueError:
        return float("inf")
