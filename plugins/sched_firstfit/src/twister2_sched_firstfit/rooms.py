"""What tasks ask for and what is left of it on each worker."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

import attrs

from twister2.spec.placing import TASK_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from twister2.spec.environment import WorkerInfo
    from twister2.spec.plan import VertexPlan

    from .config import FirstFitConfig

_NO_LIMIT = float("inf")
_SLACK = 1e-9
"""Sums of CPUs are floats: ten times 0.1 fits into 1."""


@attrs.frozen
class Need:
    """What tasks need together; what a program has not asked for is not counted."""

    memory_mb: float = 0
    cpus: float = 0.0
    gpus: float = 0
    tasks: float = 0

    @classmethod
    def of(cls, vertices: Iterable[VertexPlan]) -> Need:
        """One task of each vertex."""
        vertices = list(vertices)
        return cls(
            sum(vertex.memory_mb for vertex in vertices if "memory_mb" in vertex.asks),
            sum(vertex.cpus for vertex in vertices if "cpus" in vertex.asks),
            sum(vertex.gpus for vertex in vertices if "gpus" in vertex.asks),
            len(vertices),
        )

    @property
    def sizes(self) -> tuple[float, float, float, float]:
        """In the order in which they are compared."""
        return self.memory_mb, self.cpus, self.gpus, self.tasks

    @property
    def wishes(self) -> bool:
        """Whether something was asked for."""
        return any(self.sizes[:3])

    def __str__(self) -> str:
        wishes = zip(self.sizes[:3], DIMENSIONS[:3], strict=True)
        return " and ".join(text(size, dimension) for size, dimension in wishes if size) or "nothing"


DIMENSIONS = ("MiB of memory", "CPUs", "GPUs", "tasks")


def text(size: float, dimension: str) -> str:
    """``1,500 MiB of memory``; nobody needs to know more of a limit that is none."""
    if size == _NO_LIMIT:
        return f"any number of {dimension}"
    return f"{size:,.0f} {dimension}" if size == int(size) else f"{size:g} {dimension}"


class Rooms:
    """What each worker has left, in all dimensions.

    :param limit: most tasks on a worker, 0 for any number.
    """

    def __init__(self, workers: Sequence[WorkerInfo], config: FirstFitConfig, limit: int) -> None:
        tasks = limit or _NO_LIMIT
        self.limit = limit
        self.capacity = [
            (
                # A worker whose limit is not known takes what comes.
                max(0, worker.memory_mb - config.memory_padding_mb) if worker.memory_mb else _NO_LIMIT,
                max(0.0, worker.cpus - config.cpu_padding),
                worker.gpus,
                tasks,
            )
            for worker in workers
        ]
        self.left = [list(capacity) for capacity in self.capacity]
        self.tasks = [0] * len(workers)
        self._from: dict[tuple[float, ...], int] = {}
        """By what is needed: the first worker that may have room. Rooms only get smaller, so it only goes up."""
        self._by_tasks: list[tuple[int, int]] = []
        """A heap of (tasks, worker); workers may have more tasks than it says."""

    def has(self, worker: int, need: Need) -> bool:
        """Whether the worker has room for it; what is not needed may be overdrawn."""
        return not any(map(_short, self.left[worker], need.sizes))

    def missing(self, worker: int, need: Need) -> list[int]:
        """The dimensions that a worker has not enough of."""
        return [
            k for k, (left, size) in enumerate(zip(self.left[worker], need.sizes, strict=True)) if _short(left, size)
        ]

    def first(self, need: Need) -> int | None:
        """The first worker with room, None when there is none."""
        worker = self._from.get(need.sizes, 0)
        while worker < len(self.left) and not self.has(worker, need):
            worker += 1
        self._from[need.sizes] = worker
        return worker if worker < len(self.left) else None

    def emptiest(self, need: Need) -> int | None:
        """The worker with fewest tasks, for tasks that ask for nothing; None when even that one is full."""
        if not self._by_tasks:
            self._by_tasks = sorted((tasks, worker) for worker, tasks in enumerate(self.tasks))
        while self._by_tasks[0][0] != self.tasks[self._by_tasks[0][1]]:  # has got some since
            worker = self._by_tasks[0][1]
            heapq.heapreplace(self._by_tasks, (self.tasks[worker], worker))
        worker = self._by_tasks[0][1]
        return worker if self.has(worker, need) else None  # the limit is the same for all

    def least_bad(self, need: Need) -> int | None:
        """The worker that would be overdrawn least, as a share of what it has; only its limit of tasks holds."""
        free = [worker for worker in range(len(self.left)) if not _short(self.left[worker][3], need.tasks)]
        return min(free, key=lambda worker: (self._share(worker, need), worker), default=None)

    def _share(self, worker: int, need: Need) -> float:
        shares = [0.0]
        for capacity, left, size in zip(self.capacity[worker][:3], self.left[worker], need.sizes, strict=False):
            if size and capacity != _NO_LIMIT:
                shares.append((capacity - left + size) / max(capacity, _SLACK))
        return max(shares)

    def take(self, worker: int, need: Need) -> None:
        """Count it in."""
        for k, size in enumerate(need.sizes):
            self.left[worker][k] -= size
        self.tasks[worker] += int(need.tasks)

    def most(self, dimension: int) -> tuple[float, int]:
        """The most that a worker has left in a dimension, and which."""
        return max((left[dimension], -worker) for worker, left in enumerate(self.left))

    def why_not(self, need: Need) -> tuple[str, str]:
        """Why nobody has room for what a task (or those of a group together) needs, and what could be done."""
        n = len(self.left)
        if self.limit and need.tasks > self.limit:
            return (
                f"{need.tasks} tasks of a group lie on one worker, and {TASK_LIMIT} is {self.limit}",
                "raise that constraint, or take vertices out of the group",
            )
        if all(_short(left[3], need.tasks) for left in self.left):
            return (
                f"{n} workers with {self.limit} tasks each are full: {TASK_LIMIT} is {self.limit}",
                "raise the constraint, use more workers, or lower the parallelism",
            )
        for k, dimension in enumerate(DIMENSIONS[:3]):
            size = need.sizes[k]
            if not size or any(not _short(left[k], size) for left in self.left):
                continue
            most, worker = self.most(k)
            largest = max(capacity[k] for capacity in self.capacity)
            whole = f"; no worker has more than {text(largest, dimension)}" if _short(largest, size) else ""
            return (
                f"it asks for {text(size, dimension)}, and the most that is left is {text(max(most, 0), dimension)}, "
                f"on worker {-worker}{whole}",
                f"give the workers more ({_OPTIONS[k]}), use more of them, lower the wish or the parallelism, or set "
                "sched.firstfit.oversubscribe",
            )
        bounded = f" within {TASK_LIMIT} = {self.limit}" if self.limit else ""
        return (
            f"it asks for {need}, and no worker has all of that left at once{bounded}",
            "use more workers, give them more, lower wishes or parallelism, or set sched.firstfit.oversubscribe",
        )


_OPTIONS = ("job.memory_mb", "job.cpus", "job.gpus")


def _short(left: float, size: float) -> bool:
    return size > 0 and size > left + _SLACK
