"""Kind ``sched``: a task scheduler places the tasks of a graph on the workers.

Who calls it: every worker, at the first run of a graph, in the thread that runs the program (``env.run``,
``env.prepare``, ``graph.explain``); nobody else calls it then. It blocks the program, so it must be quick: a thousand
vertices in less than a second. It communicates with nobody, keeps nothing between two calls, and changes nothing it was
given.

A pure function: the same request gives the same placement on every worker and in every process, whatever the hash seed,
clock, attempt or environment, because every worker computes it for itself. It reads only its request: what was measured
for it (:attr:`TaskScheduler.needs`) was exchanged, and is the same on all workers.

A program may bring its own, without a plugin: ``Graph(scheduler=...)``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from twister2.spec.plugin import PluginSpec, hookspec
from twister2.spec.values import Value

if TYPE_CHECKING:
    from twister2.spec.environment import WorkerInfo
    from twister2.spec.plan import EdgePlan, Placement, VertexPlan


@attrs.frozen(eq=False, repr=False)
class ScheduleRequest(Value):
    """What is to be placed.

    :ivar vertices: in topological order. :ivar workers: by worker id.
    :ivar fixed: placements that must be kept, by vertex (inputs that already lie on workers).
    :ivar constraints: ``{"max_tasks_per_worker": 4}`` and the like, from the graph: see ``twister2.spec.placing``.
    :ivar sizes: by source whose planner told them: the bytes that each of its tasks will read.
    :ivar distances: (worker id, host of data) -> seconds that a MiB from there takes to that worker, 0 on the same
        host. Measured, rounded to a power of two, the same on all workers. Empty unless the scheduler needs it;
        a pair that is not there could not be measured.
    """

    vertices: tuple[VertexPlan, ...]
    edges: tuple[EdgePlan, ...]
    workers: tuple[WorkerInfo, ...]
    fixed: Mapping[str, tuple[int, ...]] = attrs.field(factory=dict)
    constraints: Mapping[str, Any] = attrs.field(factory=dict)
    sizes: Mapping[str, tuple[int, ...]] = attrs.field(factory=dict)
    distances: Mapping[tuple[int, str], float] = attrs.field(factory=dict)


class TaskScheduler(ABC):
    """The backend, or a program's own scheduler.

    :cvar needs: what must be measured for it before it is asked: ``{"distances"}`` or nothing.
    """

    needs: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def schedule(self, request: ScheduleRequest) -> Placement:
        """Place every task of every vertex on one of the workers.

        Tasks joined by an edge whose ``shape`` is ``one_to_one`` (both vertices have as many) should land on the same
        worker.

        A vertex in ``request.fixed`` stays where it is. A constraint that the scheduler does not know is an error.

        :raises GraphError: the constraints cannot be met or are not known; names vertex and constraint. It is raised on
            all workers alike, as they all have the same request; the graph does not run.
        """

    def explain(self, request: ScheduleRequest) -> str:
        """Why it placed so, for ``explain()``; called after :meth:`schedule` with the same request.

        The first line says the rule; there may be one more for each worker, or for what did not go by the rule.
        """
        return type(self).__name__


class SchedSpec(PluginSpec):
    """Base of every ``twister2.sched`` plugin."""

    kind: ClassVar[str] = "sched"

    @hookspec(firstresult=True)
    def sched_create(self, config: Any) -> TaskScheduler | None:
        """Build the scheduler. Called once per attempt on every worker, at the first graph."""
