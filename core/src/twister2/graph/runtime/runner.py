"""Running one task: take an item from an input, call the task, hand on what it emitted.

A runner is advanced by turns in the thread that runs the step. What a task emits waits in ``pending``, in order, marks
included, and the task is called again only when all of it was taken by the operators.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any, NoReturn

import attrs

from twister2.graph.runtime.failure import TaskPlace, task_failure
from twister2.spec.batch import Batch, is_array, is_arrow, n_bytes, n_records, own
from twister2.spec.channel import HeaderKind
from twister2.spec.errors import GraphError, OperatorError, Twister2Error
from twister2.spec.ops import Operator
from twister2.spec.values import Value

if TYPE_CHECKING:
    from twister2.graph.runtime.pool import Call, Pool
    from twister2.spec.tasks import Task

_SAMPLE_EVERY = 64
"""Of so many batches of objects one is measured; exact sizes cost nothing and are always taken."""


@attrs.frozen(eq=False, repr=False)
class Output(Value):
    """One outgoing edge of a task. :ivar source: index of the task in the operator."""

    name: str
    operator: Operator
    source: int


@attrs.define
class TaskCounters:
    """What one task did; seconds are wall-clock seconds."""

    records: int = 0
    bytes: float = 0.0
    busy_s: float = 0.0
    waiting_s: float = 0.0
    blocked_s: float = 0.0
    _batches: int = 0
    _record_bytes: float = 0.0

    def following(self) -> TaskCounters:
        """Those of the next run: the size of records is estimated from this one's until another batch is measured."""
        return TaskCounters(batches=self._batches, record_bytes=self._record_bytes)

    def count(self, batch: Batch) -> None:
        """Count one batch (or one value that is no batch)."""
        if type(batch) is list:
            number = len(batch)
            self.records += number
        else:
            number = n_records(batch) if hasattr(batch, "__len__") else 1
            self.records += number
            if is_array(batch) or is_arrow(batch):
                self.bytes += n_bytes(batch)
                return
        if self._batches % _SAMPLE_EVERY == 0 and number:
            self._record_bytes = n_bytes(batch) / number
        self._batches += 1
        self.bytes += self._record_bytes * number


class TaskRunner(ABC):
    """Base of the runners of sources, computes and sinks. One serves the tasks of one place in all runs of a plan.

    :param pool: where the task's methods are called; None: in the calling thread.
    """

    def __init__(self, task: Task, place: TaskPlace, outputs: Sequence[Output], pool: Pool | None) -> None:
        self.place = place
        self.pool = pool
        self.made_for = type(task)
        self.title = f"vertex {place.vertex}"
        self._outputs = tuple(outputs)
        self._named = {one.name: tuple(output for output in outputs if output.name == one.name) for one in outputs}
        self.counters = TaskCounters()
        self._ends = [(output, HeaderKind.END, None) for output in self._outputs]
        self.renew(task)

    def renew(self, task: Task) -> None:
        """Begin with the task of another run, of the same class; of the one before nothing is left."""
        self.task: Task = task
        self.counters = self.counters.following()
        self.opened = False
        self.quiet = False
        """Whether the task itself (a source) must be asked again soon although nothing arrives."""
        self.due_ns: int | None = None
        """When the task's next timer is due, in ns since the epoch."""
        self.snapshots: dict[int, bytes | None] = {}
        """By checkpoint number; taken away by the execution."""
        self._pending: deque[tuple[Output, HeaderKind, Any]] = deque()
        self._call: Call | None = None
        self._call_started = 0.0
        self._then: Callable[[Any], None] | None = None
        self._doing = ""
        self._batch: Batch = None
        self._edge = ""
        self._ended = False
        self._blocked_since = 0.0
        self._idle_since = 0.0

    def release(self) -> None:
        """Let go of a task whose run is over, and of what it left."""
        del self.task
        self._pending.clear()
        self._call = self._then = self._batch = None

    # -- what tasks call -----------------------------------------------------------------------------------------------

    def emit(self, batch: Batch, edge: str | None = None) -> None:
        """Queue a batch for all outgoing edges, or for the one of that name."""
        if type(batch) is not list:
            if isinstance(batch, (str, bytes, Mapping, set, frozenset)) or not hasattr(batch, "__len__"):
                raise TypeError(
                    f"a batch is a list, a numpy array or an Arrow record batch, not {type(batch).__name__}"
                )
            batch = own(batch)
        if not n_records(batch):
            return
        for output in self._outputs if edge is None else self._edges(edge):
            self._pending.append((output, HeaderKind.DATA, batch))

    def _edges(self, name: str) -> tuple[Output, ...]:
        try:
            return self._named[name]
        except KeyError:
            raise GraphError(
                f"vertex {self.place.vertex!r} emits to an edge {name!r}, which it does not have",
                why=f"its edges are: {', '.join(map(repr, self._named)) or 'none'}",
                remedy="emit to one of these, or name the edge in Graph.connect",
            ) from None

    # -- what executions call ------------------------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        """Whether nothing more will come from this task and all it emitted was taken."""
        return self._ended and not self._pending and self._call is None

    @property
    def calling(self) -> bool:
        """Whether the task is in a call in another thread."""
        return self._call is not None

    def settle(self) -> bool:
        """Forget a call in another thread once it has ended, whatever came of it; whether there is none now."""
        if self._call is not None and self._call.done:
            self._call = None
        return self._call is None

    def turn(self, quantum: int) -> bool:
        """Advance by at most ``quantum`` items; returns whether anything was done.

        :raises Twister2Error: the task or one of its operators failed.
        """
        if self._call is not None and not self._take_call():
            return False
        if self._pending:
            before = len(self._pending)
            if not self._flush():
                return len(self._pending) < before
        worked = False
        for _ in range(quantum):
            if self._ended or not self._advance():
                break
            worked = True
            if self._call is not None or (self._pending and not self._flush()):
                break
        self._note_idle(worked)
        return worked

    @abstractmethod
    def _advance(self) -> bool:
        """Do the next thing; whether there was one."""

    # -- calling the task ----------------------------------------------------------------------------------------------

    def _invoke(self, then: Callable[[Any], None] | None, doing: str, function: Callable[..., Any], *args: Any) -> None:
        """Call a method of the task, here or in the pool, and ``then(result)`` here."""
        self._doing = doing
        if self.pool is not None:
            self._then = then
            self._call_started = perf_counter()
            self._call = self.pool.submit(function, *args)
            return
        started = perf_counter()
        try:
            result = function(*args)
        except (Exception, SystemExit) as error:
            self._raise(error)
        self.counters.busy_s += perf_counter() - started
        self._batch = None
        if then is not None:
            then(result)

    def _take_call(self) -> bool:
        call = self._call
        if call is None or not call.done:
            return False
        self._call = None
        self.counters.busy_s += perf_counter() - self._call_started
        try:
            result = call.result()
        except (Exception, SystemExit) as error:
            self._raise(error)
        self._batch = None
        then, self._then = self._then, None
        if then is not None:
            then(result)
        return True

    def _raise(self, error: Exception | SystemExit) -> NoReturn:
        failure = task_failure(
            error, self.place, self._doing, batch=self._batch, before=self.counters.records, edge=self._edge
        )
        if failure is error:
            raise error
        raise failure from error

    def guarded(self, doing: str, function: Callable[..., Any], *args: Any) -> Any:
        """Call a method of the task in this thread; what it raises is converted."""
        self._doing, self._batch = doing, None
        try:
            return function(*args)
        except (Exception, SystemExit) as error:
            self._raise(error)

    # -- handing on ----------------------------------------------------------------------------------------------------

    def _mark(self, kind: HeaderKind, value: Any = None) -> None:
        for output in self._outputs:
            self._pending.append((output, kind, value))

    def _end(self, _: Any = None) -> None:
        """Nothing more comes: end all edges behind what was emitted."""
        self._pending.extend(self._ends)
        self._ended = True

    def _flush(self) -> bool:
        """Hand on what is pending; whether all of it was taken."""
        pending = self._pending
        while pending:
            output, kind, value = pending[0]
            try:
                if kind is HeaderKind.DATA:
                    if not output.operator.send(output.source, value):
                        if not self._blocked_since:
                            self._blocked_since = perf_counter()
                        return False
                elif kind is HeaderKind.END:
                    output.operator.finish(output.source)
                else:
                    output.operator.mark(output.source, kind, value)
            except Twister2Error:
                raise
            except Exception as error:
                raise _operator_failure(error, output, self.place) from error
            pending.popleft()
        if self._blocked_since:
            self.counters.blocked_s += perf_counter() - self._blocked_since
            self._blocked_since = 0.0
        return True

    def _note_idle(self, worked: bool) -> None:
        if worked:
            if self._idle_since:
                self.counters.waiting_s += perf_counter() - self._idle_since
                self._idle_since = 0.0
        elif not self._idle_since and not self._ended:
            self._idle_since = perf_counter()


def _operator_failure(error: Exception, output: Output, place: TaskPlace) -> Twister2Error:
    return OperatorError(
        f"edge {output.name!r} failed: {type(error).__name__}: {error}",
        why="its operator raised something unexpected while it took a batch",
        remedy="check the records and the options of the edge; if they are right, tell the operator's authors",
        where=f"vertex {place.vertex!r}, task {place.index}, worker {place.worker_id}",
    )
