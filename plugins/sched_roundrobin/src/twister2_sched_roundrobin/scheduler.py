"""Task k on worker k mod W, chains together, within a limit per worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twister2.spec.errors import GraphError
from twister2.spec.plan import Placement, VertexPlan
from twister2.spec.sched import ScheduleRequest, TaskScheduler

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .config import RoundRobinConfig

LIMIT = "max_tasks_per_worker"


class RoundRobin(TaskScheduler):
    """The scheduler. It keeps nothing between calls."""

    def __init__(self, config: RoundRobinConfig) -> None:
        self._limit = config.max_tasks_per_worker

    def schedule(self, request: ScheduleRequest) -> Placement:
        """Place every task; see the class's module for the rules.

        :raises GraphError: a constraint is unknown or cannot be met, or a fixed placement makes no sense.
        """
        n_workers = len(request.workers)
        if not n_workers:
            raise GraphError("there are no workers", why="tasks need one", remedy="start the job with a worker or more")
        rooms = _Rooms(n_workers, self._limit_of(request.constraints))
        placed: dict[str, list[int]] = {}
        for vertex in request.vertices:
            if vertex.name in request.fixed:
                placed[vertex.name] = _fixed(vertex, request.fixed[vertex.name], n_workers)
                for worker in placed[vertex.name]:
                    rooms.take(vertex, worker)
        for chain in _chains(request):
            leader = next((placed[vertex.name] for vertex in chain if vertex.name in placed), None)
            free = [vertex for vertex in chain if vertex.name not in placed]
            for vertex in free:
                placed[vertex.name] = []
            for index in range(chain[0].parallelism):
                wanted = leader[index] if leader is not None else index % n_workers
                worker = wanted if rooms.has(wanted, len(free)) else rooms.next_free(wanted)
                for vertex in free:
                    if not rooms.has(worker, 1):
                        worker = rooms.next_free(worker)
                    rooms.take(vertex, worker)
                    placed[vertex.name].append(worker)
        return Placement({vertex.name: tuple(placed[vertex.name]) for vertex in request.vertices})

    def explain(self, request: ScheduleRequest) -> str:
        """One line for people."""
        limit = self._limit_of(request.constraints)
        bounded = f", at most {limit} tasks on a worker" if limit else ""
        fixed = f"; fixed: {', '.join(request.fixed)}" if request.fixed else ""
        return f"round robin: task k on worker k mod {len(request.workers)}, chains together{bounded}{fixed}"

    def _limit_of(self, constraints: Mapping[str, object]) -> int:
        for name in constraints:
            if name != LIMIT:
                raise GraphError(
                    f"the graph has a constraint {name!r} that this task scheduler does not know",
                    why=f"roundrobin knows {LIMIT}",
                    remedy="leave it out, or choose another task scheduler with job.sched",
                )
        limit = constraints.get(LIMIT, self._limit)
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
            raise GraphError(
                f"constraint {LIMIT} is {limit!r}",
                why="it is a whole number of tasks, 0 for no limit",
                remedy="give a number, 0 or more",
            )
        return limit


class _Rooms:
    """How many tasks each worker can still take."""

    def __init__(self, n_workers: int, limit: int) -> None:
        self._limit = limit
        self._left = [limit] * n_workers
        self._next = list(range(n_workers + 1))
        """Where to look for room from here: the worker itself while it has room, else a later one (a forest)."""

    def has(self, worker: int, number: int) -> bool:
        return not self._limit or (worker < len(self._left) and self._left[worker] >= number)

    def take(self, vertex: VertexPlan, worker: int) -> None:
        if not self._limit:
            return
        if worker >= len(self._left) or self._left[worker] < 1:
            raise GraphError(
                f"the tasks of {vertex.name!r} do not fit: {LIMIT} is {self._limit}",
                why=f"{len(self._left)} workers with {self._limit} tasks each are full",
                remedy="raise the constraint, use more workers, or lower the parallelism",
                where=f"vertex {vertex.name!r}, constraint {LIMIT}",
            )
        self._left[worker] -= 1
        if not self._left[worker]:
            self._next[worker] = worker + 1

    def next_free(self, worker: int) -> int:
        """The first worker with room from this one on, round the end; the number of workers when there is none."""
        found = self._find(worker)
        return found if found < len(self._left) else self._find(0)

    def _find(self, worker: int) -> int:
        path = []
        while self._next[worker] != worker:
            path.append(worker)
            worker = self._next[worker]
        for passed in path:
            self._next[passed] = worker
        return worker


def _fixed(vertex: VertexPlan, workers: Sequence[int], n_workers: int) -> list[int]:
    if len(workers) != vertex.parallelism or any(not 0 <= worker < n_workers for worker in workers):
        raise GraphError(
            f"the fixed placement {list(workers)} of {vertex.name!r} cannot be kept",
            why=f"it has {vertex.parallelism} tasks, and the worker ids are 0 to {n_workers - 1}",
            remedy="fix one worker id per task",
            where=f"vertex {vertex.name!r}",
        )
    return list(workers)


def _chains(request: ScheduleRequest) -> list[list[VertexPlan]]:
    """Vertices joined one to one, in topological order of their first members."""
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
    chains: dict[str, list[VertexPlan]] = {}
    for vertex in request.vertices:
        chains.setdefault(find(vertex.name), []).append(vertex)
    return list(chains.values())
