"""Graphs and plans as text for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.graph.catalog import Catalog
from twister2.graph.compile import Compiled, compile_graph, rules_left_out
from twister2.graph.fingerprint import describe
from twister2.graph.rewrite import RULES
from twister2.graph.schedulers import worker_rows
from twister2.graph.validate import order

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from twister2.graph.model import Graph
    from twister2.graph.vertices import Edge
    from twister2.spec.environment import WorkerEnvironment
    from twister2.spec.plan import EdgePlan


def explain(graph: Graph, env: WorkerEnvironment | None = None) -> str:
    """See :meth:`twister2.graph.Graph.explain`."""
    if env is None:
        return explain_graph(graph)
    catalog = Catalog(lambda name: env.backend("ops", name))
    scheduler = graph.scheduler or env.backend("sched")
    compiled = compile_graph(
        graph,
        workers=env.controller.workers(),
        scheduler=scheduler,
        catalog=catalog,
        without_rules=rules_left_out(env.config),
    )
    text = explain_plan(compiled, catalog)
    asked = [vertex.name for vertex in graph.vertices.values() if vertex.planner is not None]
    if asked and "distances" in scheduler.needs:
        text += f"\nnote: where the data of {', '.join(asked)} lies is not known here; see env.prepare(graph).explain()"
    return text


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
    rows = [
        (v.name, v.kind, str(v.parallelism), workers_text(plan.placement.workers[v.name]), v.shows)
        for v in plan.vertices
    ]
    lines = [f"{_title('plan', plan.name, plan.mode, plan.fingerprint)}, {_count(len(plan.workers), 'worker')}"]
    lines += ["vertices", *_table([("name", "kind", "tasks", "workers", "does"), *rows])]
    lines += ["edges", *_edges(plan.edges, catalog)]
    if compiled.applied:
        lines += ["rules"]
        lines += [f"  {a.rule}: {a.text} ({RULES[a.rule].explanation})" for a in compiled.applied]
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


def _edges(edges: Iterable[Edge | EdgePlan], catalog: Catalog | None) -> list[str]:
    rows = [("from", "to", "operator", "options", "name")]
    for edge in edges:
        info = catalog.info(edge.operator) if catalog is not None else None
        combines = " (combines before it sends)" if info is not None and info.combines else ""
        options = ", ".join(f"{key}={_value(value)}" for key, value in edge.options.items())
        name = "" if edge.name in (edge.target, f"{'+'.join(edge.sources)}->{edge.target}") else edge.name
        rows.append((", ".join(edge.sources), edge.target, edge.operator + combines, options, name))
    return _table(rows) if len(rows) > 1 else ["  none"]


def _value(value: Any) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return repr(value)
    if callable(value):
        return str(getattr(value, "__qualname__", type(value).__qualname__))
    return describe(value)


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Columns under their titles; those without an entry are left out."""
    columns = [column for column in range(len(rows[0])) if any(row[column] for row in rows[1:])]
    rows = [tuple(row[column] for column in columns) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(columns))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
