"""First fit, largest first: chains of tasks on the first worker that has what they ask for."""

from __future__ import annotations

from collections import Counter
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

from .rooms import Need, Rooms

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .config import FirstFitConfig

_SHOWN = 32
"""Workers and exceptions that explain() lists."""


class FirstFit(TaskScheduler):
    """The scheduler. It keeps nothing between calls."""

    def __init__(self, config: FirstFitConfig) -> None:
        self._config = config

    def schedule(self, request: ScheduleRequest) -> Placement:
        """Place every task.

        1. What is fixed stays, and counts; the rest of its group (constraint ``group``) goes there too. 2. The rest of
        a chain with a fixed member follows it while there is room. 3. Tasks ``k`` of a chain, and of a group, are one
        piece; pieces that ask for something are taken largest first (memory, then CPUs, then GPUs), each to the first
        worker with room for all of it; where none has that, its tasks go apart, but for those of a group. 4. Pieces
        that ask for nothing go to the worker with fewest tasks.

        :raises GraphError: something fits nowhere (unless oversubscribed), a constraint is unknown, or a fixed
            placement makes no sense.
        """
        return _Placing(request, self._config).run()

    def explain(self, request: ScheduleRequest) -> str:
        """The rule, what lies on each worker, and what did not go by the rule."""
        config = self._config
        placing = _Placing(request, config)
        placement = placing.run()
        rule = ["first fit, largest first by memory, CPUs, GPUs asked for; chains together"]
        if config.cpu_padding or config.memory_padding_mb:
            rule.append(f"{config.cpu_padding:g} CPUs and {config.memory_padding_mb} MiB of each worker left free")
        if placing.rooms.limit:
            rule.append(f"at most {placing.rooms.limit} tasks on a worker")
        rule.extend(f"together: {_members(group)}" for group in placing.groups)
        if request.fixed:
            rule.append(f"fixed: {', '.join(request.fixed)}")
        per_worker: list[Counter[str]] = [Counter() for _ in request.workers]
        for vertex in request.vertices:
            for worker in placement.workers[vertex.name]:
                per_worker[worker][vertex.name] += 1
        lines = [
            f"worker {worker}: {', '.join(f'{count} of {name}' for name, count in counts.items()) or 'nothing'}"
            for worker, counts in enumerate(per_worker[:_SHOWN])
        ]
        return "\n".join(["; ".join(rule), *lines, *placing.notes[:_SHOWN]])


class _Placing:
    """One call."""

    def __init__(self, request: ScheduleRequest, config: FirstFitConfig) -> None:
        need_workers(request)
        check_constraints(request, (TASK_LIMIT, GROUP), "firstfit")
        self.request, self.config = request, config
        self.groups = grouped(request)
        self.rooms = Rooms(request.workers, config, task_limit(request, config.max_tasks_per_worker))
        self.notes: list[str] = []
        self.placed: dict[str, list[int]] = {}

    def run(self) -> Placement:
        fixed = fixed_placement(self.request)
        for vertex in self.request.vertices:
            self.placed[vertex.name] = [-1] * vertex.parallelism
            for index, worker in enumerate(fixed.get(vertex.name, ())):
                self._put_here([vertex], index, worker, "where it is fixed")
        for group in self.groups:
            self._follow(group)
        for _, chain, index, leader in sorted(self._pieces(), key=lambda piece: piece[0]):
            self._place(chain, index, leader)
        return Placement({name: tuple(workers) for name, workers in self.placed.items()})

    def _pieces(self) -> Iterator[tuple[tuple[float, ...], list[VertexPlan], int, int | None]]:
        """Pieces with what they are sorted by: followers of what is fixed first, then by size, then as they come."""
        for members in chains(self.request, self.groups):
            leader = next((self.placed[one.name] for one in members if self.placed[one.name][0] >= 0), None)
            chain = [vertex for vertex in members if self.placed[vertex.name][0] < 0]
            if chain:
                sizes = tuple(-size for size in Need.of(chain).sizes[:3])
                for index in range(chain[0].parallelism):
                    wanted = None if leader is None else leader[index]
                    yield ((wanted is None, *sizes), chain, index, wanted)

    def _place(self, chain: Sequence[VertexPlan], index: int, leader: int | None) -> None:
        need = Need.of(chain)
        if leader is not None and self.rooms.has(leader, need):
            self._put(chain, index, leader)
            return
        worker = self._find(need)
        if leader is not None:
            self.notes.append(
                f"{_names(chain)}, task {index}: not with what is fixed on worker {leader}, which is full"
            )
        if worker is not None:
            self._put(chain, index, worker)
            return
        parts = sorted(self._inseparable(chain), key=len, reverse=True)
        if len(parts) > 1:
            self.notes.append(f"{_names(chain)}, task {index}: apart, as no worker has {need} left")
        for part in parts:
            own = Need.of(part)
            place = self._find(own)
            if place is None and self.config.oversubscribe:
                place = self.rooms.least_bad(own)
                self.notes.append(f"{_names(part)}, task {index}: fits nowhere, oversubscribed")
            if place is None:
                raise self._does_not_fit(part, index, own, "")
            self._put(part, index, place)

    def _inseparable(self, chain: Sequence[VertexPlan]) -> Iterator[list[VertexPlan]]:
        """The vertices of a chain: those of a group together, the others one by one."""
        of_group = {vertex.name: number for number, group in enumerate(self.groups) for vertex in group}
        parts: dict[object, list[VertexPlan]] = {}
        for vertex in chain:
            parts.setdefault(of_group.get(vertex.name, vertex.name), []).append(vertex)
        yield from parts.values()

    def _follow(self, group: Sequence[VertexPlan]) -> None:
        """Put the rest of a group where some of it are fixed."""
        fixed = [vertex for vertex in group if self.placed[vertex.name][0] >= 0]
        rest = [vertex for vertex in group if self.placed[vertex.name][0] < 0]
        check_together([fixed] if fixed else [], self.placed)
        if fixed and rest:
            for index, worker in enumerate(self.placed[fixed[0].name]):
                self._put_here(rest, index, worker, f"where {fixed[0].name!r} of its group is fixed")

    def _find(self, need: Need) -> int | None:
        return self.rooms.first(need) if need.wishes else self.rooms.emptiest(need)

    def _may_overdraw(self, worker: int, need: Need) -> bool:
        return self.config.oversubscribe and 3 not in self.rooms.missing(worker, need)

    def _put_here(self, vertices: Sequence[VertexPlan], index: int, worker: int, why: str) -> None:
        """On a worker that is given, or an error."""
        need = Need.of(vertices)
        if not self.rooms.has(worker, need) and not self._may_overdraw(worker, need):
            raise self._does_not_fit(vertices, index, need, f" on worker {worker}, {why}")
        self._put(vertices, index, worker)

    def _put(self, vertices: Sequence[VertexPlan], index: int, worker: int) -> None:
        self.rooms.take(worker, Need.of(vertices))
        for vertex in vertices:
            self.placed[vertex.name][index] = worker

    def _does_not_fit(self, vertices: Sequence[VertexPlan], index: int, need: Need, where: str) -> GraphError:
        why, remedy = self.rooms.why_not(need)
        names = " and ".join(repr(vertex.name) for vertex in vertices)
        together = " together" if len(vertices) > 1 else ""
        return GraphError(
            f"task {index} of {names} does not fit{together}{where}",
            why=why,
            remedy=remedy,
            where=f"vertex {vertices[0].name!r}, task {index} of {vertices[0].parallelism}"
            + (f", constraint {GROUP}" if together else ""),
        )


def _names(chain: Sequence[VertexPlan]) -> str:
    return " > ".join(vertex.name for vertex in chain)


def _members(group: Sequence[VertexPlan]) -> str:
    return " with ".join(vertex.name for vertex in group)
