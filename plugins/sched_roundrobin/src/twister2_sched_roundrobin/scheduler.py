"""Task k on worker k mod W, chains together, within a limit per worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twister2.spec.errors import GraphError
from twister2.spec.placing import (
    GROUP,
    TASK_LIMIT,
    chains,
    check_constraints,
    check_together,
    fixed_placement,
    grouped,
    need_workers,
    task_limit,
)
from twister2.spec.plan import Placement, VertexPlan
from twister2.spec.sched import ScheduleRequest, TaskScheduler

if TYPE_CHECKING:
    from .config import RoundRobinConfig


class RoundRobin(TaskScheduler):
    """The scheduler. It keeps nothing between calls."""

    def __init__(self, config: RoundRobinConfig) -> None:
        self._limit = config.max_tasks_per_worker

    def schedule(self, request: ScheduleRequest) -> Placement:
        """Place every task; see the class's module for the rules.

        :raises GraphError: a constraint is unknown or cannot be met, or a fixed placement makes no sense.
        """
        need_workers(request)
        n_workers = len(request.workers)
        rooms = _Rooms(n_workers, self._limit_of(request))
        placed = {name: list(workers) for name, workers in fixed_placement(request).items()}
        for vertex in request.vertices:
            for worker in placed.get(vertex.name, ()):
                rooms.take(vertex, worker)
        groups = grouped(request)
        for chain in chains(request, groups):
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
        check_together(groups, placed)
        return Placement({vertex.name: tuple(placed[vertex.name]) for vertex in request.vertices})

    def explain(self, request: ScheduleRequest) -> str:
        """One line for people."""
        limit = self._limit_of(request)
        bounded = f", at most {limit} tasks on a worker" if limit else ""
        fixed = f"; fixed: {', '.join(request.fixed)}" if request.fixed else ""
        together = "".join(f"; together: {' with '.join(one.name for one in group)}" for group in grouped(request))
        return f"round robin: task k on worker k mod {len(request.workers)}, chains together{bounded}{together}{fixed}"

    def _limit_of(self, request: ScheduleRequest) -> int:
        check_constraints(request, (TASK_LIMIT, GROUP), "roundrobin")
        return task_limit(request, self._limit)


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
                f"the tasks of {vertex.name!r} do not fit: {TASK_LIMIT} is {self._limit}",
                why=f"{len(self._left)} workers with {self._limit} tasks each are full",
                remedy="raise the constraint, use more workers, or lower the parallelism",
                where=f"vertex {vertex.name!r}, constraint {TASK_LIMIT}",
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
