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
    from collections.abc import Collection, Mapping

    from twister2.spec.plan import VertexPlan
    from twister2.spec.sched import ScheduleRequest

TASK_LIMIT = "max_tasks_per_worker"
"""The constraint that limits how many tasks of a graph may lie on one worker; 0 for no limit."""


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


def chains(request: ScheduleRequest) -> list[list[VertexPlan]]:
    """The vertices, those joined one to one together, in topological order of their first members.

    All of a chain have as many tasks, and their tasks ``k`` belong on one worker.
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
    found: dict[str, list[VertexPlan]] = {}
    for vertex in request.vertices:
        found.setdefault(find(vertex.name), []).append(vertex)
    return list(found.values())
