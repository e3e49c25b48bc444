"""Kind ``exec``: an executor carries out a worker's share of a plan.

One contract for batch and streams. An :class:`Execution` is prepared once and may be run many times (iterations): each
run is one step of the group. The thread that calls ``run`` runs tasks, timers, operators and the network; between steps
nothing runs in the user process. Sources are polled, never waited for. A task instance is never called by two threads
at once.

Thought through against unbounded sources with barriers in band: ``checkpoint(n)`` makes every local source send
BARRIER n behind what it has read and notes its position; a task snapshots when the barrier is aligned over its inputs;
the execution reports the snapshots; ``drain`` stops sources and lets everything in flight arrive; ``cancel`` stops at
once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from twister2.spec.plugin import PluginSpec, hookspec
from twister2.spec.values import Value

if TYPE_CHECKING:
    import logging

    from twister2.spec.memory import MemoryService
    from twister2.spec.network import Network, Step
    from twister2.spec.ops import Operators
    from twister2.spec.plan import Plan


@attrs.frozen(eq=False, repr=False)
class ExecutorContext(Value):
    """What an executor is made for.

    :ivar operators: ``operators("net")`` gives the operator backend of that name.
    :ivar report: called with the counters per vertex and edge a few times a second while a step runs.
    :ivar backend: other plugins' backends, for tasks. :ivar config: the job's configuration, for tasks.
    """

    worker_id: int
    n_workers: int
    attempt: int
    job_id: str
    threads: int
    network: Network
    memory: MemoryService
    log: logging.Logger
    operators: Callable[[str], Operators]
    backend: Callable[[str, str | None], Any]
    report: Callable[[Mapping[str, Mapping[str, float]]], None]
    config: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen(eq=False, repr=False)
class Snapshot(Value):
    """What a checkpoint of one worker's share holds: by ``"vertex/index"`` and ``"edge/number"``."""

    checkpoint: int
    tasks: Mapping[str, bytes]
    operators: Mapping[str, bytes]


class Execution(ABC):
    """A plan prepared on one worker."""

    @abstractmethod
    def start(self, step: Step, restore: Snapshot | None = None) -> None:
        """Open tasks and operators for a run of the plan in ``step``; after the first run they are reset, not
        rebuilt.

        :raises UserCodeError: a task could not be made or opened. The caller then calls :meth:`cancel`, as after any
            error of these methods.
        """

    @abstractmethod
    def step(self, budget_s: float = 0.05) -> bool:
        """Work for about ``budget_s`` seconds, or until there is nothing to do at once; returns whether the run is
        complete on this worker. Waits on the network when idle.

        :raises UserCodeError: a task raised: names vertex, task index and record (the batch is run again record by
            record on a copy when that is safe, else the batch's first records are named), with the traceback.
        """

    @abstractmethod
    def run(self) -> Mapping[str, list[Any]]:
        """``step`` until complete, then the two-phase commit of sinks; returns the outputs kept here by sink name, one
        entry per local task, in order of task index.

        :raises UserCodeError: as :meth:`step`, also when a sink's ``prepare`` or ``commit`` raises.
        :raises StepAbortedError: another worker failed.
        """

    @abstractmethod
    def checkpoint(self, number: int) -> None:
        """Send BARRIER ``number`` from all local sources; :meth:`snapshot` has the result once aligned everywhere
        here.
        """

    @abstractmethod
    def snapshot(self) -> Snapshot | None:
        """The last complete checkpoint of this worker's share, or None. Asked between two calls of :meth:`step`."""

    @abstractmethod
    def drain(self) -> None:
        """Sources stop; what is in flight still arrives; then ``step`` returns True. Returns at once; idempotent."""

    @abstractmethod
    def cancel(self) -> None:
        """Stop now: abort sinks, close tasks and operators. Idempotent; also after an error, which it must
        not hide. Waits for no other worker.
        """

    @abstractmethod
    def counters(self) -> Mapping[str, Mapping[str, float]]:
        """Per vertex (``"vertex map"``) and edge (``"edge 0 map->count"``): records, bytes, busy_s, waiting_s,
        blocked_s.
        """

    @abstractmethod
    def close(self) -> None:
        """Close tasks and operators for good. Idempotent."""


class Executor(ABC):
    """The backend."""

    @abstractmethod
    def prepare(self, plan: Plan) -> Execution:
        """Make ready to run a plan, without communication.

        :raises GraphError: the plan has something this executor does not do; names it.
        """

    @abstractmethod
    def close(self) -> None:
        """Release threads. Idempotent."""


class ExecSpec(PluginSpec):
    """Base of every ``twister2.exec`` plugin."""

    kind: ClassVar[str] = "exec"
    modes: ClassVar[frozenset[str]] = frozenset({"batch"})
    """``batch``, ``stream``."""

    @hookspec(firstresult=True)
    def exec_create(self, config: Any, context: ExecutorContext) -> Executor | None:
        """Build the executor. Called once per attempt, at the first graph."""
