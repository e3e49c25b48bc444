"""Task schedulers with one fault each; :class:`twister2_testkit.sched.SchedSuite` must reject every one."""

from __future__ import annotations

import itertools
import os
import random
from collections import Counter
from typing import Any, ClassVar

from twister2.spec.errors import GraphError
from twister2.spec.plan import Placement
from twister2.spec.plugin import hookimpl
from twister2.spec.sched import SchedSpec, ScheduleRequest, TaskScheduler

LIMIT = "max_tasks_per_worker"
GROUP = "group"


class Sound(TaskScheduler):
    """A plain scheduler without a fault: chains by name of the first vertex, first worker with room."""

    def schedule(self, request: ScheduleRequest) -> Placement:
        """Place every task."""
        size = len(request.workers)
        for name, value in request.constraints.items():
            if name not in (LIMIT, GROUP):
                raise GraphError(f"unknown constraint {name!r} ({value!r})", why="unknown", remedy="leave it out")
        limit = self.limit(request)
        loads: Counter[int] = Counter()
        places: dict[str, tuple[int, ...]] = {}
        for name, workers in self.fixed(request).items():
            number = next(vertex.parallelism for vertex in request.vertices if vertex.name == name)
            if len(workers) != number or any(not 0 <= worker < size for worker in workers):
                raise GraphError(f"{name} cannot be fixed on {workers}", why="no such places", remedy="correct them")
            places[name] = tuple(workers)
            loads.update(workers)
        before, after = self.chains(request)
        for vertex in request.vertices:
            if vertex.name in places:
                continue
            leader = places.get(before.get(vertex.name, "")) or places.get(after.get(vertex.name, ""))
            chosen = []
            for index in range(vertex.parallelism):
                wanted = leader[index] if leader else self.wanted(vertex.name, index, size)
                free = [worker for worker in range(size) if loads[worker] < limit]
                if not free:
                    raise GraphError(f"{vertex.name} does not fit {LIMIT}", why="full", remedy="raise it")
                worker = wanted if wanted in free or limit == NO_LIMIT else free[0]
                loads[worker] += 1
                chosen.append(worker)
            places[vertex.name] = tuple(chosen)
        for one, other in self.groups(request):
            if places[one] != places[other]:
                raise GraphError(f"{one} and {other} of a group lie apart", why="no room", remedy="leave it out")
        return Placement(places)

    def wanted(self, vertex: str, index: int, size: int) -> int:
        """The worker a task should be on."""
        return index % size

    def fixed(self, request: ScheduleRequest) -> dict[str, tuple[int, ...]]:
        """The placements that are kept."""
        return dict(request.fixed)

    def limit(self, request: ScheduleRequest) -> int:
        """The limit that is kept."""
        return int(request.constraints.get(LIMIT, 0)) or NO_LIMIT

    def chains(self, request: ScheduleRequest) -> tuple[dict[str, str], dict[str, str]]:
        """Which vertex a vertex follows, by chains: the one before it, and the fixed one behind it."""
        direct = [
            (source, edge.target) for edge in request.edges if edge.shape == "one_to_one" for source in edge.sources
        ]
        direct += self.groups(request)
        return {b: a for a, b in direct}, {a: b for a, b in direct}

    def groups(self, request: ScheduleRequest) -> list[tuple[str, str]]:
        """Neighbours of a group."""
        return [pair for names in request.constraints.get(GROUP, ()) for pair in itertools.pairwise(names)]


NO_LIMIT = 1 << 60


class Random(Sound):
    """Places by chance."""

    def wanted(self, vertex: str, index: int, size: int) -> int:
        """Any worker."""
        return random.randrange(size)


class BuiltinHash(Sound):
    """Places by ``hash()``, which differs between processes."""

    def wanted(self, vertex: str, index: int, size: int) -> int:
        """By hash."""
        return (hash(vertex) + index) % size


class ByProcess(Sound):
    """Places by something outside its request."""

    def wanted(self, vertex: str, index: int, size: int) -> int:
        """By chance, other in every process."""
        return os.urandom(1)[0] % size


class OffByOne(Sound):
    """Counts workers from one."""

    def wanted(self, vertex: str, index: int, size: int) -> int:
        """One too high."""
        return index % size + 1


class ForgetsFixed(Sound):
    """Keeps no fixed placement."""

    def fixed(self, request: ScheduleRequest) -> dict[str, tuple[int, ...]]:
        """None."""
        return {}


class IgnoresLimit(Sound):
    """Puts any number of tasks on a worker."""

    def limit(self, request: ScheduleRequest) -> int:
        """None."""
        return NO_LIMIT


class TearsGroups(Sound):
    """Knows the constraint, and keeps it only as far as each task would lie there anyway."""

    def wanted(self, vertex: str, index: int, size: int) -> int:
        """Shifted by the letters of the name."""
        return (index + sum(vertex.encode())) % size

    def groups(self, request: ScheduleRequest) -> list[tuple[str, str]]:
        """None."""
        return []


class TearsChains(Sound):
    """Places each vertex from another worker on."""

    def wanted(self, vertex: str, index: int, size: int) -> int:
        """Shifted by the length of the name's number."""
        return (index + sum(vertex.encode())) % size

    def chains(self, request: ScheduleRequest) -> tuple[dict[str, str], dict[str, str]]:
        """None."""
        return {}, {}


class LosesLast(Sound):
    """Forgets the last task of each vertex."""

    def schedule(self, request: ScheduleRequest) -> Placement:
        """One task short."""
        sound = super().schedule(request)
        return Placement({name: workers[:-1] for name, workers in sound.workers.items()})


class MutantPlugin(SchedSpec):
    """Base of the plugins that give the mutants."""

    api = (1, 0)
    scheduler: ClassVar[type[TaskScheduler]] = Sound

    @hookimpl
    def sched_create(self, config: Any) -> TaskScheduler:
        """Make the mutant."""
        return self.scheduler()


def plugin_of(scheduler: type[TaskScheduler]) -> type[MutantPlugin]:
    """A plugin class that gives ``scheduler``; also an attribute of this module, for other processes."""
    made = type(f"{scheduler.__name__}Plugin", (MutantPlugin,), {"scheduler": scheduler, "__module__": __name__})
    globals()[made.__name__] = made
    return made


MUTANTS = (Random, BuiltinHash, ByProcess, OffByOne, ForgetsFixed, IgnoresLimit, TearsGroups, TearsChains, LosesLast)
"""All of them."""

PLUGINS = {scheduler.__name__: plugin_of(scheduler) for scheduler in (Sound, *MUTANTS)}
