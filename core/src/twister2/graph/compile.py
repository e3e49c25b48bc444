"""From a graph to a plan: validate, decide parallelism, rewrite, place, number the edges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs

from twister2.graph.fingerprint import plan_fingerprint
from twister2.graph.logical import LogicalEdge, LogicalPlan, LogicalVertex, logical_plan
from twister2.graph.returned import asked, backend_name
from twister2.graph.rewrite import Applied, rewrite
from twister2.graph.rules.ways import by_hash
from twister2.graph.schedulers import data_hosts
from twister2.graph.schemas import schemas, with_schemas
from twister2.spec.errors import PluginIncompleteError
from twister2.spec.plan import EdgePlan, Placement, Plan, VertexPlan
from twister2.spec.sched import ScheduleRequest, TaskScheduler
from twister2.spec.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from twister2.graph.catalog import Catalog
    from twister2.graph.model import Graph
    from twister2.spec.environment import WorkerInfo

BROADCAST_MB = 8.0
"""As ``job.graph.broadcast_mb`` is when nothing is configured."""


@attrs.frozen(eq=False, repr=False)
class Compiled(Value):
    """A plan and how it came about.

    :ivar applied: what rewriting rules changed. :ivar scheduler: why the tasks lie where they do.
    :ivar request: what the scheduler was asked. :ivar by_hash: sinks that keep what they get, where that
        lies by the hash of keys, with the columns of these, as ``Declarations.partitioned``.
    :ivar schemas: pyarrow schemas of what sinks get that keep it, where known.
    """

    plan: Plan
    applied: tuple[Applied, ...]
    scheduler: str
    request: ScheduleRequest
    by_hash: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    schemas: Mapping[str, Any] = attrs.field(factory=dict)


def compile_graph(
    graph: Graph,
    *,
    workers: Sequence[WorkerInfo],
    scheduler: TaskScheduler,
    catalog: Catalog,
    planned: Mapping[str, Any] | None = None,
    measure: Callable[[tuple[str, ...]], Mapping[tuple[int, str], float]] | None = None,
    without_rules: Collection[str] = (),
    broadcast_mb: float = BROADCAST_MB,
) -> Compiled:
    """Compile ``graph`` for these workers. Pure: every worker gets the same plan.

    :param planned: results of the planners by vertex, and bytes of stored sets where they count; those that are missing
        are not known (for ``explain``: such a plan cannot be run when a source has a planner).
    :param scheduler: unless the graph brings its own. :param measure: gives the distances of
        :class:`~twister2.spec.sched.ScheduleRequest` for hosts of data; asked when the scheduler needs them, on all
        workers. :param without_rules: rules left out beside those that the graph leaves out.
    :param broadcast_mb: the size in MiB up to which a side of a join may go to all its tasks.
    :raises GraphError: the graph is not valid, or cannot be placed.
    :raises PluginIncompleteError: the scheduler gave no whole placement. :raises PluginError: it raised something.
    """
    graph.validate(catalog)
    plain = attrs.evolve(
        logical_plan(graph, len(workers), catalog, planned), broadcast_bytes=int(broadcast_mb * (1 << 20))
    )
    known = schemas(plain, catalog)
    plain = with_schemas(plain, catalog, known)
    logical, applied = rewrite(plain, catalog, {*graph.without_rules, *without_rules})
    vertices = tuple(_vertex_plan(vertex) for vertex in logical.vertices)
    edges = tuple(
        EdgePlan(
            number,
            edge.name,
            edge.sources,
            edge.target,
            edge.operator,
            edge.options,
            _shape(edge, logical, catalog),
            edge.arrives_as,
        )
        for number, edge in enumerate(logical.edges)
    )
    scheduler = graph.scheduler or scheduler
    hosts = data_hosts(vertices)
    request = ScheduleRequest(
        vertices,
        edges,
        tuple(workers),
        logical.fixed,
        dict(graph.constraints),
        {vertex.name: vertex.sizes for vertex in logical.vertices if vertex.sizes},
        measure(hosts) if measure is not None and hosts and "distances" in scheduler.needs else {},
    )
    own = graph.scheduler is not None
    placement = asked(scheduler, "sched", "schedule", Placement, lambda: scheduler.schedule(request), of_program=own)
    _check_placement(scheduler, placement, logical, len(workers))
    fingerprint = plan_fingerprint(graph, vertices, edges, placement)
    plan = Plan(graph.name, graph.mode, vertices, edges, placement, tuple(workers), fingerprint)
    kept = {name: columns for name, columns in by_hash(logical, catalog).items() if name in graph.kept}
    columns_kept = {name: known[name] for name in graph.kept if name in known}
    told = asked(scheduler, "sched", "explain", str, lambda: scheduler.explain(request), of_program=own)
    return Compiled(plan, tuple(applied), told, request, kept, columns_kept)


def rule_options(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the job's configuration says about rules (``job.graph``), as :func:`compile_graph` takes it."""
    given = config.get("job", {}).get("graph", {})
    return {name: given[name] for name in ("without_rules", "broadcast_mb") if name in given}


def _shape(edge: LogicalEdge, plan: LogicalPlan, catalog: Catalog) -> str:
    info = catalog.info(edge.operator)
    tasks = {plan.vertex(name).parallelism for name in (*edge.sources, edge.target)}
    if len(tasks) == 1 and set(edge.options.get("in_place") or ()) == set(range(len(edge.sources))):
        return "one_to_one"  # rule colocate: nothing is sent to another task
    return "" if info is None else info.shape


def _vertex_plan(vertex: LogicalVertex) -> VertexPlan:
    return VertexPlan(
        name=vertex.name,
        kind=vertex.kind,
        parallelism=vertex.parallelism,
        make=vertex.make,
        cpus=vertex.cpus,
        memory_mb=vertex.memory_mb,
        hosts=vertex.hosts,
        options=vertex.options,
        shows=vertex.shows,
        two_phase=vertex.two_phase,
        inputs=vertex.inputs,
        asks=vertex.asks,
        gpus=vertex.gpus,
        parts=vertex.parts,
    )


def _check_placement(scheduler: TaskScheduler, placement: Placement, logical: LogicalPlan, n_workers: int) -> None:
    for vertex in logical.vertices:
        workers = placement.workers.get(vertex.name, ())
        if len(workers) != vertex.parallelism or any(worker not in range(n_workers) for worker in workers):
            raise PluginIncompleteError(
                f"the sched plugin's backend {backend_name(scheduler)} placed {vertex.name!r} on workers "
                f"{list(workers)!r}",
                where=f"vertex {vertex.name!r}",
                why=f"{vertex.parallelism} tasks must each lie on one of the workers 0 to {n_workers - 1}",
                remedy="choose another task scheduler (job.sched), and report this to its authors",
            )
