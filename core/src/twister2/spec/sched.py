"""Kind ``sched``: a task scheduler places the tasks of a graph on the workers.

A pure function: the same request gives the same placement on every worker and in every process, whatever the hash seed,
clock or environment, because every worker computes it for itself. It reads only its request.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import attrs

from twister2.spec.environment import WorkerInfo
from twister2.spec.plan import EdgePlan, Placement, VertexPlan
from twister2.spec.plugin import PluginSpec, hookspec


@attrs.frozen
class ScheduleRequest:
    """What is to be placed.

    :ivar vertices: in topological order. :ivar workers: by worker id.
    :ivar fixed: placements that must be kept, by vertex (inputs that already lie on workers).
    :ivar constraints: ``{"max_tasks_per_worker": 4}`` and the like, from the graph.
    """

    vertices: tuple[VertexPlan, ...]
    edges: tuple[EdgePlan, ...]
    workers: tuple[WorkerInfo, ...]
    fixed: Mapping[str, tuple[int, ...]] = attrs.field(factory=dict)
    constraints: Mapping[str, Any] = attrs.field(factory=dict)


class TaskScheduler(ABC):
    """The backend."""

    @abstractmethod
    def schedule(self, request: ScheduleRequest) -> Placement:
        """Place every task of every vertex on one of the workers.

        Tasks joined by a one-to-one edge (``net.direct`` with equal parallelism) should land on the same worker.

        :raises GraphError: the constraints cannot be met; names vertex and constraint.
        """

    def explain(self, request: ScheduleRequest) -> str:
        """Why it placed so, one line, for ``explain()``."""
        return type(self).__name__


class SchedSpec(PluginSpec):
    """Base of every ``twister2.sched`` plugin."""

    kind: ClassVar[str] = "sched"

    @hookspec(firstresult=True)
    def sched_create(self, config: Any) -> TaskScheduler | None:
        """Build the scheduler."""
