"""What task schedulers have in common: checking what they are asked, and finding what belongs together.

For authors of schedulers; each raises what :meth:`~twister2.spec.sched.TaskScheduler.schedule` should raise::

    class EverySecond(TaskScheduler):
        def schedule(self, request):
            need_workers(request)
            check_constraints(request, ())
            placed = dict(fixed_placement(request))
            workers = [info.worker_id for info in request.workers][::2]
            for chain in chains(request):
                for vertex in chain:
                    if vertex.name not in placed:
                        placed[vertex.name] = tuple(workers[k % len(workers)] for k in range(vertex.parallelism))
            return Placement(placed)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twister2.spec.errors import GraphError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from twister2.spec.plan import VertexPlan
    from twister2.spec.sched import ScheduleRequest

TASK_LIMIT = "max_tasks_per_worker"
"""The constraint that limits how many tasks of a graph may lie on one worker; 0 for no limit."""

GROUP = "group"
"""The constraint that names vertices whose tasks ``k`` must lie on one worker: a list of names, or a list of such."""


def need_workers(request: ScheduleRequest) -> None:
    """:raises GraphError: there are no workers."""
    if not request.workers:
        raise GraphError("there are no workers", why="tasks need one", remedy="start the job with a worker or more")


def check_constraints(request: ScheduleRequest, known: Collection[str], scheduler: str = "it") -> None:
    """Check that a scheduler knows all constraints of the graph.

    :param scheduler: its name, for the message.
    :raises GraphError: there is another one.
    """
    for name in request.constraints:
        if name not in known:
            raise GraphError(
                f"the graph has a constraint {name!r} that this task scheduler does not know",
                why=f"{scheduler} knows {', '.join(known) or 'none'}",
                remedy="leave it out, or choose another task scheduler with job.sched",
            )


def task_limit(request: ScheduleRequest, default: int = 0) -> int:
    """The graph's constraint :data:`TASK_LIMIT`, else ``default``; 0 for no limit.

    :raises GraphError: it is no such number.
    """
    limit = request.constraints.get(TASK_LIMIT, default)
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
        raise GraphError(
            f"constraint {TASK_LIMIT} is {limit!r}",
            why="it is a whole number of tasks, 0 for no limit",
            remedy="give a number, 0 or more",
        )
    return limit


def fixed_placement(request: ScheduleRequest) -> Mapping[str, tuple[int, ...]]:
    """What must stay where it is, checked: vertex -> worker of each of its tasks.

    :raises GraphError: it makes no sense.
    """
    placed, n_workers = {}, len(request.workers)
    for vertex in request.vertices:
        workers = request.fixed.get(vertex.name)
        if workers is None:
            continue
        if len(workers) != vertex.parallelism or any(not 0 <= worker < n_workers for worker in workers):
            raise GraphError(
                f"the fixed placement {list(workers)} of {vertex.name!r} cannot be kept",
                why=f"it has {vertex.parallelism} tasks, and the worker ids are 0 to {n_workers - 1}",
                remedy="fix one worker id per task",
                where=f"vertex {vertex.name!r}",
            )
        placed[vertex.name] = tuple(workers)
    return placed


def chains(request: ScheduleRequest, groups: Iterable[Sequence[VertexPlan]] = ()) -> list[list[VertexPlan]]:
    """The vertices, those joined one to one together, in topological order of their first members.

    All of a chain have as many tasks, and their tasks ``k`` belong on one worker.

    :param groups: of :func:`grouped`: what belongs together besides.
    """
    head = {vertex.name: vertex.name for vertex in request.vertices}

    def find(name: str) -> str:
        while head[name] != name:
            head[name] = head[head[name]]
            name = head[name]
        return name

    for edge in request.edges:
        if edge.shape == "one_to_one":  # then the parallelisms are equal
            for source in edge.sources:
                head[find(edge.target)] = find(source)
    for group in groups:
        for vertex in group[1:]:
            head[find(vertex.name)] = find(group[0].name)
    found: dict[str, list[VertexPlan]] = {}
    for vertex in request.vertices:
        found.setdefault(find(vertex.name), []).append(vertex)
    return list(found.values())


def grouped(request: ScheduleRequest) -> list[list[VertexPlan]]:
    """The groups of the graph's constraint :data:`GROUP`, in topological order; those with a common vertex are one.

    Vertices that rules have joined to one are that one; a group of which nothing else is left says nothing.

    :raises GraphError: it is no list of names, names no vertex, or its vertices have different numbers of tasks.
    """
    by_name = {name: vertex for vertex in request.vertices for name in vertex.names}
    found: list[set[str]] = []
    for names in _groups_of(request):
        members = {_member(by_name, name).name for name in names}
        _check_alike([by_name[name] for name in members])
        for other in [one for one in found if one & members]:
            found.remove(other)
            members |= other
        found.append(members)
    return [[vertex for vertex in request.vertices if vertex.name in one] for one in found if len(one) > 1]


def check_together(groups: Iterable[Sequence[VertexPlan]], placed: Mapping[str, Sequence[int]]) -> None:
    """Check that a placement keeps the groups.

    :raises GraphError: tasks of a group lie apart, because of what is fixed or of a limit.
    """
    for group in groups:
        first = group[0]
        for vertex in group[1:]:
            for index, (worker, other) in enumerate(zip(placed[first.name], placed[vertex.name], strict=True)):
                if worker != other:
                    raise GraphError(
                        f"task {index} of {first.name!r} would lie on worker {worker}, that of {vertex.name!r} on "
                        f"worker {other}",
                        why=f"constraint {GROUP} puts them on one worker; what is fixed, or a limit, forbids it",
                        remedy="fix them alike, raise the limit, or take one of them out of the group",
                    )


def _groups_of(request: ScheduleRequest) -> list[Sequence[str]]:
    given = request.constraints.get(GROUP, ())
    wanted = [given] if _are_names(given) else given
    if not isinstance(wanted, (list, tuple)) or not all(_are_names(one) for one in wanted):
        raise GraphError(
            f"constraint {GROUP} is {given!r}",
            why="it names vertices whose tasks k must lie on one worker",
            remedy='give a list of two names or more, ["parse", "match"], or a list of such lists',
        )
    return list(wanted)


def _are_names(given: object) -> bool:
    return isinstance(given, (list, tuple)) and len(given) > 1 and all(isinstance(name, str) for name in given)


def _member(by_name: Mapping[str, VertexPlan], name: str) -> VertexPlan:
    try:
        return by_name[name]
    except KeyError:
        raise GraphError(
            f"constraint {GROUP} names {name!r}, and the graph has no such vertex",
            why=f"its vertices are: {', '.join(by_name)}",
            remedy="correct the name",
        ) from None


def _check_alike(members: Sequence[VertexPlan]) -> None:
    if len({vertex.parallelism for vertex in members}) > 1:
        numbers = ", ".join(sorted(f"{vertex.name} has {vertex.parallelism}" for vertex in members))
        raise GraphError(
            f"the vertices of a group have different numbers of tasks: {numbers}",
            why=f"constraint {GROUP} puts tasks k of its vertices on one worker",
            remedy="give them the same parallelism",
        )
