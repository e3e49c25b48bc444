"""Sources near their data, balanced by bytes; chains go with their sources; the rest round robin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

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

from .nearness import Nearness

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .config import DataLocalityConfig

_SHOWN = 32
"""Workers that explain() lists."""

_MIB = 1 << 20


@attrs.frozen
class Piece:
    """The tasks of one index of a chain that are not fixed.

    :ivar hosts: where data of its sources lies. :ivar size: of that data, in bytes; None when nothing says it.
    :ivar leader: the worker of those of its chain that are fixed.
    """

    vertices: Sequence[VertexPlan]
    index: int
    hosts: tuple[str, ...] = ()
    size: int | None = None
    leader: int | None = None


class DataLocality(TaskScheduler):
    """The scheduler. It keeps nothing between calls."""

    needs = frozenset({"distances"})

    def __init__(self, config: DataLocalityConfig) -> None:
        self._config = config

    def schedule(self, request: ScheduleRequest) -> Placement:
        """Place every task; see the README for the rules.

        :raises GraphError: a constraint is unknown or cannot be met, or a fixed placement makes no sense.
        """
        return _Placing(request, self._config).run()

    def explain(self, request: ScheduleRequest) -> str:
        """The rule, and what each worker reads from where."""
        placing = _Placing(request, self._config)
        placement = placing.run()
        rule = "data locality: sources near their data, the rest round robin; chains together"
        if placing.share:
            rule += f"; at most {placing.share / _MIB:.4g} MiB read by a worker"
        if placing.limit:
            rule += f"; at most {placing.limit} tasks on a worker"
        for group in placing.groups:
            rule += f"; together: {' with '.join(vertex.name for vertex in group)}"
        if request.fixed:
            rule += f"; fixed: {', '.join(request.fixed)}"
        lines = [rule]
        if not any(vertex.hosts for vertex in request.vertices):
            return f"{rule}; no source says where its data lies"
        for worker, info in enumerate(request.workers[:_SHOWN]):
            near, far = [0, 0], [0, 0]
            for vertex in request.vertices:
                for index, hosts in vertex.hosts.items():
                    if placement.workers[vertex.name][index] == worker:
                        kind = near if placing.nearness.is_near(worker, hosts) else far
                        kind[0] += 1
                        kind[1] += placing.bytes_of(vertex, index) or 0
            lines.append(
                f"worker {worker} ({info.node.host}): {near[0]} tasks read {near[1] / _MIB:.4g} MiB here, "
                f"{far[0]} read {far[1] / _MIB:.4g} MiB elsewhere"
            )
        return "\n".join(lines)


class _Placing:
    """One call."""

    def __init__(self, request: ScheduleRequest, config: DataLocalityConfig) -> None:
        need_workers(request)
        check_constraints(request, (TASK_LIMIT, GROUP), "datalocality")
        self.groups = grouped(request)
        self.request, self.nearness = request, Nearness(request)
        self.limit = task_limit(request, config.max_tasks_per_worker)
        self.share = 0.0
        self._slack = config.slack
        self._tasks = [0] * len(request.workers)
        self._read = [0.0] * len(request.workers)
        self._next_free = 0
        self._placed: dict[str, list[int]] = {}

    def bytes_of(self, vertex: VertexPlan, index: int) -> int | None:
        """What a task reads; None when nothing says it."""
        sizes = self.request.sizes.get(vertex.name)
        return None if sizes is None else sizes[index]

    def run(self) -> Placement:
        fixed = fixed_placement(self.request)
        for vertex in self.request.vertices:
            self._placed[vertex.name] = [-1] * vertex.parallelism
            for index, worker in enumerate(fixed.get(vertex.name, ())):
                self._put([vertex], index, worker)
        pieces = list(self._pieces())
        data = [piece for piece in pieces if piece.hosts and piece.leader is None]
        known = [piece.size for piece in data if piece.size is not None]
        mean = (sum(known) / len(known) if known else 0) or 1.0
        sizes = [float(mean if piece.size is None else piece.size) for piece in data]
        self.share = sum(sizes) / len(self._tasks) * (1 + self._slack) if known else 0.0
        most = sum(sizes) / len(self._tasks) * (1 + self._slack)
        order = sorted(range(len(data)), key=lambda k: (-self.nearness.regret(data[k].hosts) * sizes[k], -sizes[k], k))
        for piece in pieces:
            if piece.leader is not None:
                self._put_whole(piece, piece.leader)
        for k in order:
            worker = self._nearest(data[k], sizes[k], most)
            self._read[worker] += sizes[k]
            self._put_whole(data[k], worker)
        for piece in pieces:
            if piece.leader is None and not piece.hosts:
                self._put_whole(piece, piece.index % len(self._tasks))
        check_together(self.groups, self._placed)
        return Placement({name: tuple(workers) for name, workers in self._placed.items()})

    def _pieces(self) -> Iterator[Piece]:
        for chain in chains(self.request, self.groups):
            leader = next((self._placed[one.name] for one in chain if self._placed[one.name][0] >= 0), None)
            rest = [vertex for vertex in chain if self._placed[vertex.name][0] < 0]
            sources = [vertex for vertex in rest if vertex.hosts]
            for index in range(rest[0].parallelism if rest else 0):
                hosts = tuple(dict.fromkeys(host for vertex in sources for host in vertex.hosts.get(index, ())))
                known = [one for vertex in sources if (one := self.bytes_of(vertex, index)) is not None]
                yield Piece(
                    rest, index, hosts, sum(known) if known else None, None if leader is None else leader[index]
                )

    def _nearest(self, piece: Piece, size: float, most: float) -> int:
        """The nearest worker that can still read so much; where none can, the one that reads least."""
        for _, workers in self.nearness.groups(piece.hosts):
            worker = min((one for one in workers if self._has(one, len(piece.vertices))), key=self._load, default=None)
            if worker is not None and (self._read[worker] + size <= most or not self._read[worker]):
                return worker
        return min(range(len(self._tasks)), key=self._load)

    def _load(self, worker: int) -> tuple[float, int, int]:
        return self._read[worker], self._tasks[worker], worker

    def _has(self, worker: int, number: int) -> bool:
        return not self.limit or self._tasks[worker] + number <= self.limit

    def _put_whole(self, piece: Piece, worker: int) -> None:
        """All of a piece on a worker; within a limit of tasks, where there is room."""
        if not self._has(worker, len(piece.vertices)):
            worker = self._free(worker)
        for vertex in piece.vertices:
            if not self._has(worker, 1):
                worker = self._free(worker)
            self._put([vertex], piece.index, worker)

    def _free(self, worker: int) -> int:
        """A worker with room for a task: this one, else the first; the fullest there is where all are full."""
        if self._has(worker, 1):
            return worker
        while self._next_free < len(self._tasks) - 1 and not self._has(self._next_free, 1):
            self._next_free += 1
        return self._next_free

    def _put(self, vertices: Sequence[VertexPlan], index: int, worker: int) -> None:
        for vertex in vertices:
            if not self._has(worker, 1):
                raise GraphError(
                    f"the tasks of {vertex.name!r} do not fit: {TASK_LIMIT} is {self.limit}",
                    why=f"{len(self._tasks)} workers with {self.limit} tasks each are full",
                    remedy="raise the constraint, use more workers, or lower the parallelism",
                    where=f"vertex {vertex.name!r}, constraint {TASK_LIMIT}",
                )
            self._tasks[worker] += 1
            self._placed[vertex.name][index] = worker
