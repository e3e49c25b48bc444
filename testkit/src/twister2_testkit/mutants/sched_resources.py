"""Schedulers that look at wishes or at data, with one fault each; the suites of
:mod:`twister2_testkit.sched_resources` must reject every one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from twister2.spec.errors import GraphError
from twister2.spec.placing import TASK_LIMIT, chains, check_constraints, fixed_placement, task_limit
from twister2.spec.plan import Placement, VertexPlan
from twister2.spec.plugin import hookimpl
from twister2.spec.sched import SchedSpec, ScheduleRequest, TaskScheduler

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from twister2.spec.environment import WorkerInfo

WISHES = {"memory_mb": "memory", "cpus": "CPUs", "gpus": "GPUs"}


@attrs.frozen
class _Piece:
    """Tasks of one index of a chain. :ivar wanted: where those of the chain that are fixed lie."""

    vertices: list[VertexPlan]
    index: int
    wanted: int | None


class _Fit:
    """Who lies where, and how much is left."""

    def __init__(self, scheduler: SoundFitting | SoundLocality, request: ScheduleRequest) -> None:
        self._scheduler = scheduler
        self._limit = task_limit(request) or 1 << 60
        self._left = [[scheduler.room(request.workers, worker, wish) for wish in WISHES] for worker in request.workers]
        self.tasks = [0] * len(request.workers)
        self._places = {vertex.name: [-1] * vertex.parallelism for vertex in request.vertices}
        by_name = {vertex.name: vertex for vertex in request.vertices}
        for name, workers in fixed_placement(request).items():
            for index, worker in enumerate(workers):
                self.take([by_name[name]], index, worker)
        self.pieces = list(self._pieces(request))

    def _pieces(self, request: ScheduleRequest) -> Iterator[_Piece]:
        for chain in self._scheduler.together(request):
            leader = next((self._places[one.name] for one in chain if self._places[one.name][0] >= 0), None)
            rest = [vertex for vertex in chain if self._places[vertex.name][0] < 0]
            for index in range(rest[0].parallelism if rest else 0):
                yield _Piece(rest, index, None if leader is None else leader[index])

    def take(self, vertices: Sequence[VertexPlan], index: int, worker: int) -> None:
        self.tasks[worker] += len(vertices)
        needs = self._scheduler.needs_of(vertices)
        self._left[worker] = [have - need for have, need in zip(self._left[worker], needs, strict=True)]
        for vertex in vertices:
            self._places[vertex.name][index] = worker

    def free(self, vertices: Sequence[VertexPlan]) -> list[int]:
        needs = self._scheduler.needs_of(vertices)
        return [
            worker
            for worker, have in enumerate(self._left)
            if self.tasks[worker] + len(vertices) <= self._limit
            and all(not need or need <= room + 1e-9 for need, room in zip(needs, have, strict=True))
        ]

    def placement(self) -> Placement:
        return Placement({name: tuple(workers) for name, workers in self._places.items()})


class SoundFitting(TaskScheduler):
    """Fits without a fault: the largest first, on the first worker with room, else with most tasks left."""

    def schedule(self, request: ScheduleRequest) -> Placement:
        """Place every task."""
        check_constraints(request, (TASK_LIMIT,))
        fit = _Fit(self, request)
        fit.pieces.sort(key=lambda piece: [-need for need in self.needs_of(piece.vertices)])
        for piece in fit.pieces:
            whole = fit.free(piece.vertices)
            for group in [piece.vertices] if whole else [[vertex] for vertex in piece.vertices]:
                found = fit.free(group)
                if not found:
                    missing = [word for wish, word in WISHES.items() if wish in group[0].asks] or [TASK_LIMIT]
                    raise GraphError(f"{group[0].name} does not fit: {missing}", why="full", remedy="ask for less")
                best = found[0] if any(self.needs_of(group)) else min(found, key=lambda worker: fit.tasks[worker])
                fit.take(group, piece.index, piece.wanted if piece.wanted in found else best)
        return fit.placement()

    def room(self, workers: Sequence[WorkerInfo], worker: WorkerInfo, wish: str) -> float:
        """What a worker has."""
        return float(getattr(worker, wish)) if wish != "memory_mb" or worker.memory_mb else float("inf")

    def needs_of(self, vertices: Sequence[VertexPlan]) -> list[float]:
        """What one task of each vertex asks for."""
        return [sum(getattr(vertex, wish) for vertex in vertices if self.asks(vertex, wish)) for wish in WISHES]

    def asks(self, vertex: VertexPlan, wish: str) -> bool:
        """Whether it was asked for."""
        return wish in vertex.asks

    def together(self, request: ScheduleRequest) -> list[list[VertexPlan]]:
        """The chains."""
        return chains(request)


class IgnoresWishes(SoundFitting):
    """Nobody asks for anything."""

    def asks(self, vertex: VertexPlan, wish: str) -> bool:
        """Never."""
        return False


class CountsDefaults(SoundFitting):
    """Takes the default of one CPU for a wish."""

    def asks(self, vertex: VertexPlan, wish: str) -> bool:
        """Always."""
        return True


class AllAlike(SoundFitting):
    """Takes all workers to be as large as the first."""

    def room(self, workers: Sequence[WorkerInfo], worker: WorkerInfo, wish: str) -> float:
        """The first one's."""
        return super().room(workers, workers[0], wish)


class NoMemoryIsNone(SoundFitting):
    """Thinks of memory alone."""

    def asks(self, vertex: VertexPlan, wish: str) -> bool:
        """Of memory only."""
        return wish == "memory_mb" and wish in vertex.asks


class LosesAFew(SoundFitting):
    """Rounds what is asked for down."""

    def needs_of(self, vertices: Sequence[VertexPlan]) -> list[float]:
        """Whole CPUs, hundreds of MiB."""
        memory, cpus, gpus = super().needs_of(vertices)
        return [memory // 100 * 100, cpus // 1, gpus]


class TearsChainsApart(SoundFitting):
    """Every vertex for itself, in the order of its name's last letter."""

    def together(self, request: ScheduleRequest) -> list[list[VertexPlan]]:
        """None."""
        return [[vertex] for vertex in request.vertices]


class SoundLocality(TaskScheduler):
    """Near the data without a fault: the nearest worker that has not its share yet."""

    needs: ClassVar[frozenset[str]] = frozenset({"distances"})

    def schedule(self, request: ScheduleRequest) -> Placement:
        """Place every task."""
        check_constraints(request, (TASK_LIMIT,))
        fit = _Fit(self, request)
        read = [0] * len(request.workers)
        share = self.share(sum(map(sum, request.sizes.values())), len(read))
        fit.pieces.sort(key=lambda piece: self.choice(piece))
        for piece in fit.pieces:
            size = sum(request.sizes[one.name][piece.index] for one in piece.vertices if one.name in request.sizes)
            hosts = [host for vertex in piece.vertices for host in vertex.hosts.get(piece.index, ())]

            def rank(worker: int, size: int = size, hosts: Sequence[str] = hosts) -> tuple[Any, ...]:
                if not hosts:
                    return fit.tasks[worker], worker
                over = read[worker] + size > max(share, size)
                return over, self.far(request.distances, worker, hosts), read[worker], worker

            wanted = min(range(len(read)), key=rank) if piece.wanted is None else piece.wanted
            for vertex in piece.vertices:
                free = fit.free([vertex])
                if not free:
                    raise GraphError(f"{vertex.name} does not fit {TASK_LIMIT}", why="full", remedy="raise it")
                fit.take([vertex], piece.index, wanted if wanted in free else free[0])
            read[wanted] += size
        return fit.placement()

    def needs_of(self, vertices: Sequence[VertexPlan]) -> list[float]:
        """Nothing: data only."""
        return [0.0] * len(WISHES)

    def choice(self, piece: _Piece) -> int:
        """How many hosts it could be near to: those with least choice come first."""
        return sum(len(vertex.hosts.get(piece.index, ())) for vertex in piece.vertices) or 1 << 30

    def share(self, total: int, n_workers: int) -> float:
        """Most bytes of a worker."""
        return total / n_workers * 1.1

    def room(self, workers: Sequence[WorkerInfo], worker: WorkerInfo, wish: str) -> float:
        """Any amount."""
        return float("inf")

    def far(self, distances: Mapping[tuple[int, str], float], worker: int, hosts: Sequence[str]) -> float:
        """How far a worker is from the nearest of these hosts."""
        return min(distances.get((worker, host), 1e9) for host in hosts)

    def together(self, request: ScheduleRequest) -> list[list[VertexPlan]]:
        """The chains."""
        return chains(request)


class LooksAway(SoundLocality):
    """Does not look where data lies."""

    def far(self, distances: Mapping[tuple[int, str], float], worker: int, hosts: Sequence[str]) -> float:
        """All the same."""
        return 0.0


class Crowds(SoundLocality):
    """The nearest worker, however much it has to read."""

    def share(self, total: int, n_workers: int) -> float:
        """Everything."""
        return float("inf")


class Farthest(SoundLocality):
    """Looks at the farthest copy."""

    def far(self, distances: Mapping[tuple[int, str], float], worker: int, hosts: Sequence[str]) -> float:
        """The worst."""
        return max(distances.get((worker, host), 1e9) for host in hosts)


class MustBeMeasured(SoundLocality):
    """Fails where nobody could measure."""

    def far(self, distances: Mapping[tuple[int, str], float], worker: int, hosts: Sequence[str]) -> float:
        """A KeyError."""
        return min(distances[worker, host] for host in hosts)


class ByName(SoundLocality):
    """Believes names, not what was measured."""

    def far(self, distances: Mapping[tuple[int, str], float], worker: int, hosts: Sequence[str]) -> float:
        """By number."""
        return 0.0 if f"host{worker}" in hosts else 1.0


class NeedsNothing(SoundLocality):
    """Forgets to say what it needs."""

    needs: ClassVar[frozenset[str]] = frozenset()


class LeavesFollowers(SoundLocality):
    """What follows the source goes elsewhere."""

    def together(self, request: ScheduleRequest) -> list[list[VertexPlan]]:
        """None."""
        return [[vertex] for vertex in request.vertices]


class _MutantPlugin(SchedSpec):
    api = (1, 0)
    scheduler: ClassVar[type[TaskScheduler]] = SoundFitting

    @hookimpl
    def sched_create(self, config: Any) -> TaskScheduler:
        """Make the mutant."""
        return self.scheduler()


def _plugin_of(scheduler: type[TaskScheduler]) -> type[_MutantPlugin]:
    """A plugin class that gives ``scheduler``; also an attribute of this module, for other processes."""
    made = type(f"{scheduler.__name__}Plugin", (_MutantPlugin,), {"scheduler": scheduler, "__module__": __name__})
    globals()[made.__name__] = made
    return made


FITTING = (IgnoresWishes, CountsDefaults, AllAlike, NoMemoryIsNone, LosesAFew, TearsChainsApart)
LOCALITY = (LooksAway, Crowds, Farthest, MustBeMeasured, ByName, NeedsNothing, LeavesFollowers)
"""All of them, by suite."""

PLUGINS = {
    scheduler.__name__: _plugin_of(scheduler) for scheduler in (SoundFitting, SoundLocality, *FITTING, *LOCALITY)
}
