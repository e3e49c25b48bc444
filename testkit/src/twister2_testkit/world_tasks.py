"""Tasks for tests of executors, and a diary in which they write what was done to them."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from twister2.spec.tasks import END, Compute, Emit, EndOfData, Sink, Source, Task, TaskContext

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from twister2.spec.batch import Batch


class Diary:
    """What happened to the tasks of a test, over all workers.

    :ivar calls: how often each ``"vertex/index method"`` was called. :ivar overlaps: calls of a task that began while
        another call of the same task was under way. :ivar committed: committables by commit.
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.overlaps: list[str] = []
        self.threads: dict[str, set[int]] = {}
        self.committed: list[list[Any]] = []
        self.ahead = 0
        self.furthest = 0
        self._busy: Counter[str] = Counter()
        self._lock = threading.Lock()

    def enter(self, name: str, method: str) -> None:
        """A method of task ``name`` begins."""
        with self._lock:
            self.calls[f"{name} {method}"] += 1
            self.threads.setdefault(name, set()).add(threading.get_ident())
            if self._busy[name]:
                self.overlaps.append(f"{name} {method}")
            self._busy[name] += 1

    def leave(self, name: str) -> None:
        """It ends."""
        with self._lock:
            self._busy[name] -= 1

    def move(self, batches: int) -> None:
        """A source is ``batches`` further ahead of the sinks (negative: a sink has caught up)."""
        with self._lock:
            self.ahead += batches
            self.furthest = max(self.furthest, self.ahead)

    def of(self, vertex: str, method: str) -> dict[int, int]:
        """Calls of a method by task index."""
        found = {}
        for key, count in self.calls.items():
            name, called = key.split(" ")
            if called == method and name.rpartition("/")[0] == vertex:
                found[int(name.rpartition("/")[2])] = count
        return found


class Noted(Task):
    """A task that writes into the diary; mixed in front of a kind of task."""

    def __init__(self, diary: Diary) -> None:
        self.diary = diary
        self.name = "?"
        self.context: TaskContext | None = None

    def note(self, method: str) -> None:
        """Write a call that takes no time."""
        self.diary.enter(self.name, method)
        self.diary.leave(self.name)

    def open(self, context: TaskContext) -> None:
        """Remember the context."""
        self.context, self.name = context, f"{context.vertex}/{context.index}"
        self.note("open")

    def close(self) -> None:
        """Note it."""
        self.note("close")


class Numbers(Noted, Source):
    """Gives ``batches`` in order, then END; ``fail`` is raised instead of batch ``fail_at``."""

    def __init__(
        self, diary: Diary, batches: Iterable[Batch], fail_at: int = -1, pause: Callable[[], bool] | None = None
    ) -> None:
        super().__init__(diary)
        self._batches = iter(batches)
        self._count = 0
        self._fail_at = fail_at
        self._pause = pause

    def poll(self) -> Batch | EndOfData | None:
        """The next batch."""
        if self._pause is not None and self._pause():
            return None
        if self._count == self._fail_at:
            raise ValueError("the source broke")
        for batch in self._batches:
            self._count += 1
            self.diary.move(1)
            return batch
        return END

    def snapshot(self) -> bytes:
        """The position."""
        return str(self._count).encode()

    def restore(self, state: bytes) -> None:
        """Go on from a position."""
        while self._count < int(state):
            next(self._batches)
            self._count += 1


class Apply(Noted, Compute):
    """Emits ``function(record)`` for each record; ``at_end`` gives a last batch."""

    narrow = True

    def __init__(
        self,
        diary: Diary,
        function: Callable[[Any], Any] = lambda record: record,
        *,
        at_end: Callable[[], Batch] | None = None,
        blocking: bool = False,
        edges: tuple[str | None, ...] = (None,),
    ) -> None:
        super().__init__(diary)
        self._function = function
        self._at_end = at_end
        self._edges = edges
        self.blocking = blocking
        self.handled = 0

    def process(self, batch: Batch, emit: Emit, edge: str) -> None:
        """Apply the function."""
        from twister2.graph import walking

        self.diary.enter(self.name, "process")
        try:
            if self.blocking:
                time.sleep(0.002)
            with walking(batch) as records:
                out = [self._function(record) for record in records]
            self.handled += len(out)
            for name in self._edges:
                emit(out, name)
        finally:
            self.diary.leave(self.name)

    def finish(self, emit: Emit) -> None:
        """Emit the last batch."""
        self.note("finish")
        if self._at_end is not None:
            emit(self._at_end())

    def snapshot(self) -> bytes:
        """How many records were handled."""
        return str(self.handled).encode()

    def restore(self, state: bytes) -> None:
        """Take back the number."""
        self.handled = int(state)


class CountKeys(Noted, Compute):
    """Counts pairs by key; gives the counts at the end."""

    def __init__(self, diary: Diary) -> None:
        super().__init__(diary)
        self._counts: Counter[Any] = Counter()

    def process(self, batch: Batch, emit: Emit, edge: str) -> None:
        """Add the values of each key."""
        for key, value in batch:
            self._counts[key] += value

    def finish(self, emit: Emit) -> None:
        """Give the counts."""
        emit(list(self._counts.items()))


class Keep(Noted, Sink):
    """Keeps the records; prepares their number; commits into the diary."""

    two_phase = True

    def __init__(self, diary: Diary, slow_s: float = 0.0, fail_in: str = "") -> None:
        super().__init__(diary)
        self.kept: list[Any] = []
        self.by_edge: dict[str, list[Any]] = {}
        self._slow_s = slow_s
        self._fail_in = fail_in

    def _note(self, method: str) -> None:
        self.note(method)
        if self._fail_in == method:
            raise ValueError(f"{method} broke")

    def open(self, context: TaskContext) -> None:
        """Remember the context."""
        super().open(context)
        if self._fail_in == "open":
            raise ValueError("open broke")

    def write(self, batch: Batch, edge: str) -> None:
        """Keep the records."""
        self.diary.enter(self.name, "write")
        try:
            if self._slow_s:
                time.sleep(self._slow_s)
            if self._fail_in == "write":
                raise ValueError("write broke")
            self.kept.extend(batch)
            self.by_edge.setdefault(edge, []).extend(batch)
            self.diary.move(-1)
        finally:
            self.diary.leave(self.name)

    def prepare(self, checkpoint: int) -> list[Any]:
        """Who holds how many records."""
        self._note("prepare")
        return [[self.name, len(self.kept), checkpoint]]

    def commit(self, committables: list[Any]) -> None:
        """Write the list into the diary."""
        self._note("commit")
        self.diary.committed.append(committables)

    def abort(self) -> None:
        """Note it."""
        self.note("abort")

    def output(self) -> Any:
        """The records."""
        self._note("output")
        return list(self.kept)

    def snapshot(self) -> bytes:
        """How many records were kept."""
        return str(len(self.kept)).encode()
