"""The tasks of a task graph: sources, computes and sinks, and the context they run in.

A vertex holds a picklable factory; each task (instance) of it is made on its worker by the executor. A task instance is
never called by two threads at once. All methods are called by the thread that runs the step, except those of functions
declared blocking. ``open`` comes first, ``close`` last, also after an error.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from twister2.spec.values import Value

if TYPE_CHECKING:
    import logging

    from twister2.spec.batch import Batch
    from twister2.spec.memory import MemoryService
    from twister2.spec.stored import Partition


@attrs.frozen(eq=False, repr=False)
class TaskContext(Value):
    """Where a task finds itself.

    :ivar vertex: name of the vertex; :ivar index: index of this task in it; :ivar parallelism: number of its tasks.
    :ivar options: the vertex's options; :ivar attempt: the attempt, for sinks.
    :ivar checkpoint: number of the checkpoint it was restored from, 0 for none.
    :ivar inputs: by name, partitions of stored sets that were given to the vertex.
    :ivar workers: by name of a vertex of the graph: the worker of each of its tasks.
    :ivar config: the job's configuration, as ``env.config``; leave it as it is.
    """

    vertex: str
    index: int
    parallelism: int
    worker_id: int
    n_workers: int
    attempt: int
    job_id: str
    step: int
    options: Mapping[str, Any]
    memory: MemoryService
    log: logging.Logger
    backend: Callable[[str, str | None], Any]
    checkpoint: int = 0
    inputs: Mapping[str, Partition] = attrs.field(factory=dict)
    workers: Mapping[str, tuple[int, ...]] = attrs.field(factory=dict)
    config: Mapping[str, Any] = attrs.field(factory=dict)

    def tasks_here(self, vertex: str) -> list[int]:
        """The indices of a vertex's tasks on this worker.

        :raises KeyError: the graph has no such vertex.
        """
        return [index for index, worker in enumerate(self.workers[vertex]) if worker == self.worker_id]


class EndOfData(enum.Enum):
    """The type of :data:`END`."""

    END = "end"


END = EndOfData.END
"""Returned by :meth:`Source.poll` once nothing more will come."""


class Emit(Protocol):
    """How a task sends on: ``emit(batch)`` to all its outgoing edges, ``emit(batch, "name")`` to the edge of that name.

    Never refuses: the executor calls a task again only when what it emitted has been taken.
    """

    def __call__(self, batch: Batch, edge: str | None = None) -> None: ...


class Task(ABC):
    """Base of all tasks."""

    def open(self, context: TaskContext) -> None:
        """Called once before anything else."""

    def close(self) -> None:
        """Called once at the end, also after an error; must not raise for what ``open`` did not do."""

    def snapshot(self) -> bytes | None:
        """State for a checkpoint, taken when a barrier has arrived on all inputs; None when there is none."""
        return None

    def restore(self, state: bytes) -> None:
        """Take back what :meth:`snapshot` gave, after ``open``."""

    def counters(self) -> Mapping[str, float]:
        """Counters of its own (``bytes`` read from a file, ``skipped_files``...) that replace or join the executor's.

        Called a few times a second, between two other calls.
        """
        return {}


def has_own(task: Task, method: str) -> bool:
    """Whether calling a method of a task does anything: it is not the one of :class:`Task`, which does nothing."""
    return getattr(getattr(task, method), "__func__", None) is not getattr(Task, method)


class Source(Task):
    """A task without inputs. Polled; must not block longer than a few milliseconds."""

    @abstractmethod
    def poll(self) -> Batch | EndOfData | None:
        """The next batch, None when there is nothing right now, or :data:`END`."""

    def wait_fd(self) -> int | None:
        """A file descriptor that becomes readable when :meth:`poll` may have something, or None: poll again soon."""
        return None


class Compute(Task):
    """A task with inputs and outputs."""

    @abstractmethod
    def process(self, batch: Batch, emit: Emit, edge: str) -> None:
        """Handle one batch that came over the edge of that name.

        Whatever it raises ends the job as a :class:`~twister2.spec.errors.UserCodeError` naming vertex, task and
        record.
        """

    def watermark(self, value: int, emit: Emit) -> None:
        """Event time has reached ``value`` on all inputs; the executor forwards the mark afterwards."""

    def timer(self, now_ns: int, emit: Emit) -> int | None:
        """Called when the task begins and then when a timer is due, until the inputs have ended.

        Returns the time of the next one (ns since the epoch) or None for no more.
        """
        return None

    def finish(self, emit: Emit) -> Iterable[Batch] | None:
        """All inputs have ended; what is emitted here is the last.

        :returns: None, or the last batches, as an iterator or a generator: each is asked for when those before have
            been taken, so that they are never in memory all at once.
        """
        return None


class Sink(Task):
    """A task without outputs.

    A sink that writes outside the job does so in two phases: :meth:`prepare` makes everything written so far durable
    but invisible and returns plain-data *committables*; one commit per job makes them visible (idempotent, keyed by
    job, step, task and checkpoint); :meth:`abort` throws away what was not prepared. A batch graph has one checkpoint,
    at its end.
    """

    @abstractmethod
    def write(self, batch: Batch, edge: str) -> None:
        """Handle one batch."""

    def prepare(self, checkpoint: int) -> list[Any]:
        """Make durable what was written since the last call; returns committables (JSON-able)."""
        return []

    def commit(self, committables: list[Any]) -> None:
        """Make committables of all tasks of this sink visible.

        Called on one task only, once prepare succeeded on all; may be repeated with the same list after a crash.
        """

    def abort(self) -> None:
        """Throw away what was written and not prepared."""

    def output(self) -> Any:
        """What this task keeps on its worker as its part of the sink's named output; None for nothing."""
        return None
