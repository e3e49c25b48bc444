"""Graphs and plans as text for a terminal."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from twister2.graph.catalog import Catalog
from twister2.graph.compile import Compiled, compile_graph, rule_options
from twister2.graph.fingerprint import describe
from twister2.graph.planners import ask_planners
from twister2.graph.rewrite import RULES
from twister2.graph.schedulers import worker_rows
from twister2.graph.validate import order
from twister2.spec.errors import Twister2Error

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from twister2.graph.model import Graph
    from twister2.graph.vertices import Edge
    from twister2.spec.environment import WorkerEnvironment
    from twister2.spec.plan import EdgePlan, VertexPlan

_SHOWN = 8
"""Entries of an option that are shown; of one with more only its type is."""


def explain(graph: Graph, env: WorkerEnvironment | None = None) -> str:
    """See :meth:`twister2.graph.Graph.explain`."""
    if env is None:
        return explain_graph(graph)
    catalog = Catalog(lambda name: env.backend("ops", name))
    scheduler = graph.scheduler or env.backend("sched")
    known = _known(graph)
    compiled = compile_graph(
        graph,
        workers=env.controller.workers(),
        scheduler=scheduler,
        catalog=catalog,
        planned=known,
        **rule_options(env.config),
    )
    text = explain_plan(compiled, catalog)
    asked = [vertex.name for vertex in graph.vertices.values() if vertex.planner is not None]
    if asked and "distances" in scheduler.needs:
        text += (
            f"\nnote: how far data of {', '.join(asked)} lies is not measured here; see env.prepare(graph).explain()"
        )
    asked = [name for name in (*asked, *graph.stored) if name not in known]
    if asked and any(info is not None and info.broadcasts for info in (catalog.info(e.operator) for e in graph.edges)):
        text += (
            f"\nnote: how much there is of {', '.join(asked)} is not known here before a run has asked all workers, so"
            " a small side of a join may not be seen; a prepared plan shows it: env.prepare(graph).explain(), of sets"
            " evaluating(...).explain()"
        )
    return text


def _known(graph: Graph) -> Mapping[str, Any]:
    """What planners say here, and the bytes of stored sets for which a run has asked; by vertex."""
    try:
        planned = ask_planners(graph)
    except Twister2Error:  # whoever runs the graph is told
        planned = {}
    sizes = {name: stored.n_bytes for name, stored in graph.stored.items() if stored.n_bytes is not None}
    return {**planned, **sizes}


def explain_graph(graph: Graph) -> str:
    """The graph as it was written: no rules, no placement."""
    rows = [
        (vertex.name, vertex.kind, "default" if vertex.parallelism is None else str(vertex.parallelism), vertex.shows)
        for vertex in order(graph)
    ]
    lines = [_title("graph", graph.name, graph.mode, graph.fingerprint())]
    lines += ["vertices", *_table([("name", "kind", "tasks", "does"), *rows])]
    lines += ["edges", *_edges(graph.edges, None)]
    return "\n".join(lines)


def explain_plan(compiled: Compiled, catalog: Catalog | None = None) -> str:
    """A plan: vertices with tasks and workers, edges with operators, the rules applied, the scheduler's reason."""
    plan = compiled.plan
    names = {v.name: _short(v) for v in plan.vertices}
    rows = [
        (names[v.name], v.kind, str(v.parallelism), workers_text(plan.placement.workers[v.name]), _does(v))
        for v in plan.vertices
    ]
    lines = [f"{_title('plan', plan.name, plan.mode, plan.fingerprint)}, {_count(len(plan.workers), 'worker')}"]
    lines += ["vertices", *_table([("name", "kind", "tasks", "workers", "does"), *rows])]
    parts = {v.name: v.names for v in plan.vertices}
    lines += ["edges", *_edges(plan.edges, catalog, names, parts)]
    if compiled.applied:
        lines += ["rules"]
        for rule, applied in groupby(compiled.applied, lambda one: one.rule):
            lines += [*(f"  {rule}: {one.text}" for one in applied), f"    ({RULES[rule].explanation})"]
    lines += ["workers", *_table(worker_rows(compiled.request, plan.placement))]
    first, *more = compiled.scheduler.splitlines() or [""]
    lines += [f"placement: {first}", *(f"  {line}" for line in more)]
    return "\n".join(lines)


def workers_text(workers: Sequence[int], limit: int = 8) -> str:
    """Worker ids of tasks in short: ``0-3`` when in step, else the first few."""
    if len(workers) > 1 and list(workers) == list(range(workers[0], workers[0] + len(workers))):
        return f"{workers[0]}-{workers[-1]}"
    shown = ",".join(map(str, workers[:limit]))
    return shown if len(workers) <= limit else f"{shown},... ({len(workers)} tasks)"


def _title(what: str, name: str, mode: str, fingerprint: str) -> str:
    return f"{what} {name or '(no name)'}: {mode}, fingerprint {fingerprint}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _does(vertex: VertexPlan) -> str:
    """What a vertex does, in as many lines as it has parts where it goes by the name of its last one."""
    named_by_last = len(vertex.parts) > 1 and vertex.name == vertex.parts[-1]
    return vertex.shows.replace(" > ", " >\n") if named_by_last else vertex.shows


def _short(vertex: VertexPlan) -> str:
    """Its name; of several that were made at one place, which they name in brackets, that place once."""
    if len(vertex.parts) < 2 or vertex.name != "+".join(vertex.parts):
        return vertex.name
    places = [part.rpartition(" (")[2] if part.endswith(")") else "" for part in vertex.parts]
    titles = [part.removesuffix(f" ({place}") for part, place in zip(vertex.parts, places, strict=True)]
    last = len(places) - 1
    ends = [
        f" ({place}" if place and (at == last or places[at + 1] != place) else "" for at, place in enumerate(places)
    ]
    return "+".join(title + end for title, end in zip(titles, ends, strict=True))


def _edges(
    edges: Iterable[Edge | EdgePlan],
    catalog: Catalog | None,
    names: Mapping[str, str] | None = None,
    parts: Mapping[str, Sequence[str]] | None = None,
) -> list[str]:
    """A table. :param names: of vertices, as they are shown. :param parts: what each vertex stands for."""
    shown, inside = names or {}, parts or {}
    rows = [("from", "to", "operator", "options", "name")]
    for edge in edges:
        info = catalog.info(edge.operator) if catalog is not None else None
        combines = " (combines first)" if info is not None and info.combines else ""
        told = info.schema_options if info is not None else ()  # which columns there are, by sources
        options = ", ".join(f"{key}={_value(value)}" for key, value in edge.options.items() if key not in told)
        plain = (edge.target, *inside.get(edge.target, ()), f"{'+'.join(edge.sources)}->{edge.target}")
        name = "" if edge.name in plain else edge.name
        sources = ", ".join(shown.get(source, source) for source in edge.sources)
        rows.append((sources, shown.get(edge.target, edge.target), edge.operator + combines, options, name))
    return _table(rows) if len(rows) > 1 else ["  none"]


def _value(value: Any) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return repr(value)
    if isinstance(value, tuple) and all(type(one) is int for one in value):
        return " and ".join(map(str, value))  # numbers of inputs
    if isinstance(value, (tuple, list)) and len(value) <= _SHOWN:
        return f"({', '.join(map(_value, value))})"  # names of columns
    if isinstance(value, dict) and len(value) <= _SHOWN:
        return (
            f"{{{', '.join(f'{name}: {_value(one)}' for name, one in value.items())}}}"  # what aggregates are made of
        )
    if callable(value):
        return str(getattr(value, "__qualname__", type(value).__qualname__))
    return describe(value)


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Columns under their titles; those without an entry are left out. The last may have several lines."""
    columns = [column for column in range(len(rows[0])) if any(row[column] for row in rows[1:])]
    rows = [tuple(row[column] for column in columns) for row in rows]
    rows = [line for row in rows for line in _lines(row)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(columns))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _lines(row: tuple[str, ...]) -> list[tuple[str, ...]]:
    first, *more = row[-1].splitlines() or [""]
    return [(*row[:-1], first), *(("",) * (len(row) - 1) + (line,) for line in more)]
