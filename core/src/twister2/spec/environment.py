"""What a worker program gets: the :class:`WorkerEnvironment` and the things it leads to.

Implemented by the core (``twister2.worker``); plugins and programs use these abstract classes only.
"""

from __future__ import annotations

import pathlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import attrs

from twister2.spec.values import Value

if TYPE_CHECKING:
    import logging

    from twister2.graph import Graph, Outputs
    from twister2.spec.memory import MemoryService
    from twister2.spec.network import Group, Network
    from twister2.spec.running import Prepared, Running

T = TypeVar("T")
Scope = Literal["replicated", "keyed", "worker"]


@attrs.frozen(eq=False, repr=False)
class NodeFacts(Value):
    """Where a worker runs. Unknown facts are empty.

    :ivar host: host name; :ivar addresses: IP addresses other hosts may dial; :ivar boot_id: equal for processes of one
    kernel; :ivar node: the resource manager's name of the node; :ivar rack: rack or zone; :ivar datacenter: likewise;
    :ivar numa: NUMA node, -1 unknown; :ivar interfaces: network interface -> address; :ivar memory: equal for processes
    of one kernel that see the same shared memory (``/dev/shm``): containers of one host may not.
    """

    host: str
    addresses: tuple[str, ...] = ()
    boot_id: str = ""
    node: str = ""
    rack: str = ""
    datacenter: str = ""
    numa: int = -1
    interfaces: Mapping[str, str] = attrs.field(factory=dict)
    memory: str = ""


@attrs.frozen(eq=False, repr=False)
class WorkerInfo(Value):
    """One worker of the attempt.

    :ivar worker_id: 0..N-1, equal to the MPI rank; a function of the slot, stable over restarts.
    :ivar slot: place in the allocation.
    :ivar group: name of the resource group (``"worker"`` unless several were asked for).
    :ivar cpus: CPUs of the worker's share; :ivar memory_mb: memory limit in MiB; :ivar gpus: number of GPUs.
    """

    worker_id: int
    slot: int
    node: NodeFacts
    group: str = "worker"
    cpus: float = 1.0
    memory_mb: int = 0
    gpus: int = 0


@attrs.frozen(eq=False, repr=False)
class WorkerEvent(Value):
    """Something that happened to a worker: joined, lost, restarted, or the job was scaled; or ``time``: the time of the
    job is nearly over, and this is said to every worker.
    """

    kind: Literal["joined", "lost", "restarted", "scaled", "time"]
    worker_id: int
    attempt: int
    text: str = ""


class WorkerController(ABC):
    """Who is there: discovery, named barriers, events. Goes through the job master; not for use inside loops."""

    @abstractmethod
    def workers(self) -> Sequence[WorkerInfo]:
        """All workers of this attempt, by worker id."""

    @abstractmethod
    def barrier(self, name: str, deadline_s: float | None = None) -> None:
        """Wait until all workers have called it with this name. A numbered step.

        :param deadline_s: seconds; the configured ``job.barrier_deadline_s`` when None.
        :raises DeadlineError: names the workers that did not come.
        :raises StepMismatchError: another worker is in another step.
        """

    @abstractmethod
    def exchange(self, name: str, value: Any) -> list[Any]:
        """Give one small JSON-able value (≤ 64 KiB), get everybody's, by worker id. A barrier in passing."""

    @abstractmethod
    def events(self) -> list[WorkerEvent]:
        """Events since the last call, oldest first."""


class StateVariable(ABC, Generic[T]):
    """A declared variable that survives attempts once committed."""

    name: str
    scope: Scope

    @property
    @abstractmethod
    def value(self) -> T:
        """The value: the last committed one after a restart, else the default."""

    @value.setter
    @abstractmethod
    def value(self, value: T) -> None: ...


@attrs.frozen(eq=False, repr=False)
class Volumes(Value):
    """Folders of a worker.

    :ivar persistent: shared by all workers of the job and kept after it, or None when the manager has none.
    :ivar volatile: this worker's own scratch folder, removed with the attempt.
    """

    persistent: pathlib.Path | None
    volatile: pathlib.Path


class WorkerEnvironment(ABC):
    """The one argument of a worker program. All methods are called by the user process's main thread."""

    worker_id: int
    """The number of this worker, from 0."""
    n_workers: int
    """How many there are."""
    attempt: int
    """How often the job was started, from 1: higher after a worker was lost."""
    job_id: str
    """The job's id, as ``twister2 list`` shows it."""
    job_name: str
    """The job's name."""
    args: list[str]
    """The program's arguments, unchanged."""
    config: Mapping[str, Any]
    """The job's resolved configuration as nested plain data (``env.config["job"]["workers"]``): a copy, to be read."""
    log: logging.Logger
    """A logger whose records reach the caller, with worker id."""

    @property
    @abstractmethod
    def controller(self) -> WorkerController:
        """The other workers: who they are, barriers, what happens to them."""

    @property
    @abstractmethod
    def network(self) -> Network:
        """The worker's network. Formed at first use, which is a collective step."""

    @property
    @abstractmethod
    def memory(self) -> MemoryService:
        """The worker's memory budget, which all operators and kept sets share."""

    @property
    @abstractmethod
    def volumes(self) -> Volumes:
        """The folders of this worker: one that is removed with the attempt, and where there is one, a lasting one."""

    @property
    @abstractmethod
    def node(self) -> NodeFacts:
        """Where this worker runs."""

    @property
    @abstractmethod
    def mpi(self) -> Any:
        """The ``mpi4py`` communicator with rank = worker id.

        :raises CapabilityError: the job does not run over comm_mpi.
        """

    @abstractmethod
    def barrier(self, name: str = "", deadline_s: float | None = None) -> None:
        """Short for ``controller.barrier``; without a name all unnamed barriers are one sequence."""

    @abstractmethod
    def run(self, graph: Graph) -> Outputs:
        """Execute a task graph: rewrite, schedule, plan, execute. Collective; the one way to execute.

        :returns: the outputs kept on this worker, by sink name.
        :raises GraphError: the graph is not valid.
        :raises UserCodeError: a function of the graph raised on this worker; all others raise StepAbortedError.
        """

    @abstractmethod
    def start(self, graph: Graph) -> Running:
        """Begin to execute a graph and go on with the program. Collective, as :meth:`run`; other graphs may run
        meanwhile, this one only once at a time.

        :raises GraphError: the graph is not valid. :raises UsageError: it runs already.
        """

    @abstractmethod
    def prepare(self, graph: Graph) -> Prepared:
        """Check, plan and place a graph now, to run it many times. Collective when a source has a planner.

        A graph that is given to :meth:`run` again is not planned again either; what is prepared here stays so until it
        is closed, however many other graphs run between.

        :raises GraphError: the graph is not valid.
        """

    def figures(self) -> Mapping[str, Mapping[str, float]]:
        """What the graphs of this attempt did on this worker so far, in runs that have ended well.

        By ``"graph: vertex"`` the sums over these runs of ``records``, ``bytes``, ``busy_s``, ``waiting_s`` and
        ``blocked_s``, those that are not zero, and ``runs``. Observers are told the same at the end of the attempt.
        """
        return {}

    @abstractmethod
    def backend(self, kind: str, name: str | None = None) -> Any:
        """The backend of a selected plugin (``env.backend("ops", "net")``); the only selected one without a name.

        Loaded and made at first use, kept until the attempt ends.

        :raises PluginError: as the host does.
        """

    @abstractmethod
    def state(self, name: str, default: T, scope: Scope = "replicated") -> StateVariable[T]:
        """Declare a variable that is saved by :meth:`commit` and restored in the next attempt.

        Declare it on every worker, in the same order, before the first commit that should contain it.

        :param scope: ``replicated``: one value, the same on all workers (worker 0's is stored); ``worker``: one value
            per worker, restored only with the same number of workers; ``keyed``: by key group, restored at any number;
            not there yet.
        :raises CapabilityError: the scope is ``keyed``.
        :raises StateError: ``worker`` scope and another number of workers, or a scope that differs from the stored one.
        """

    @abstractmethod
    def commit(self) -> int:
        """Save all declared variables atomically over all workers. Collective.

        :returns: the checkpoint's number. After a crash the next attempt restores the last one that returned anywhere.
        """

    @abstractmethod
    def progress(self, done: float, total: float | None = None, unit: str = "") -> None:
        """Tell observers how far this worker is. Cheap: at most a few messages a second leave the process.

        :param done: what is done by now, finite and not negative. :param total: all there is, None when not known.
        :raises UsageError: one of them is no such number.
        """

    @abstractmethod
    def on_close(self, action: Callable[[], None]) -> None:
        """Run ``action`` when the attempt ends on this worker, last registered first."""

    @abstractmethod
    def group(self, members: Sequence[int]) -> Group:
        """The sub-group of these worker ids, in this order. Collective over the members."""

    @abstractmethod
    def empty_shared(self, shape: int | Sequence[int], dtype: Any = "float64") -> Any:
        """Short for ``network.empty_shared``: an array that other workers of this host read without a copy."""
