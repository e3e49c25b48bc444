"""How far each worker is from the data of a task, as groups of workers that are equally far."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from twister2.spec.environment import WorkerInfo
    from twister2.spec.sched import ScheduleRequest

Groups: TypeAlias = list[tuple[float, list[int]]]
"""(Seconds per MiB, the workers that are so far), nearest first."""

_GUESS = 1.0
"""To another host, where nothing was measured at all (a plan that is only looked at)."""


class Nearness:
    """Looks up what was measured; a task's data may lie on several hosts, of which the nearest counts."""

    def __init__(self, request: ScheduleRequest) -> None:
        self._workers, self._distances = request.workers, request.distances
        # Who could not be measured is farther than anybody who could.
        self._unknown = 2 * max(self._distances.values(), default=_GUESS) or _GUESS
        self._groups: dict[tuple[str, ...], Groups] = {}

    def groups(self, hosts: tuple[str, ...]) -> Groups:
        """All workers by their distance from the nearest of the hosts."""
        found = self._groups.get(hosts)
        if found is None:
            by_distance: dict[float, list[int]] = {}
            for worker, info in enumerate(self._workers):
                far = min((self._distance(worker, info, host) for host in hosts), default=0.0)
                by_distance.setdefault(far, []).append(worker)
            found = self._groups[hosts] = sorted(by_distance.items())
        return found

    def is_near(self, worker: int, hosts: tuple[str, ...]) -> bool:
        """Whether the data lies on the worker's own machine."""
        distance, workers = self.groups(hosts)[0]
        return distance == 0.0 and worker in workers

    def regret(self, hosts: tuple[str, ...]) -> float:
        """What a task loses at least, per MiB, when it cannot go to one of the nearest workers."""
        nearest, *others = self.groups(hosts)
        return others[0][0] - nearest[0] if others else 0.0

    def _distance(self, worker: int, info: WorkerInfo, host: str) -> float:
        if not self._distances:
            node = info.node
            return 0.0 if host in (node.host, node.node, *node.addresses) else _GUESS
        return self._distances.get((worker, host), self._unknown)
