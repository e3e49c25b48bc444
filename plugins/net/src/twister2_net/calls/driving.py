"""Operators used directly by worker programs: one worker's end of an exchange, and helpers that drive it.

::

    tasks = {"sources": [0, 0, 1], "targets": [0, 1]}
    with twister2_net.operator(env, "keyed_reduce", **tasks, mode="stream", reducer="sum") as op:
        for source in op.local_sources:
            op.put(source, [("a", 1), ("b", 2)])
            op.mark(source, "flush", 1)
            op.finish(source)
        for item in op.items():
            print(item.target, item.kind, item.value)

Every worker of the group makes the operator with the same arguments, also those without tasks. Nothing moves by itself:
``send``, ``receive`` and ``mark`` do not wait, :meth:`NetOperator.pump` moves what can be moved; ``put``, ``items``,
``drive`` and ``wait_until`` pump while they wait, for ``deadline_s`` seconds at most. Where they are given none, a wait
of ``put``, ``items`` and ``wait_until`` lasts ``job.barrier_deadline_s`` at most; ``drive``, which finishes its own
sources and takes all it gets, has no limit. Making the operator begins a step of the group, leaving the ``with`` block
ends it, once all sources have finished and all targets have taken END, and :meth:`NetOperator.reset` goes on to the
next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import index
from typing import TYPE_CHECKING, Any, Literal

import attrs

from twister2.spec.channel import HeaderKind, Item
from twister2.spec.errors import DeadlineError, OperatorError
from twister2.spec.ops import Operator, OperatorContext
from twister2.spec.tracebacks import short
from twister2_net.calls.alike import described
from twister2_net.calls.held_back import HeldBack
from twister2_net.calls.taken_in import TakenIn

if TYPE_CHECKING:
    from twister2.spec.batch import Batch
    from twister2.spec.environment import WorkerEnvironment
    from twister2.spec.network import EdgeCounters, Group, Step

_MARKS = (HeaderKind.BARRIER, HeaderKind.WATERMARK, HeaderKind.IDLE, HeaderKind.FLUSH)
_KINDS = {kind.name.lower(): kind for kind in _MARKS}
_CLOSING = (HeaderKind.BARRIER, HeaderKind.FLUSH)


@attrs.frozen
class Mark:
    """A mark among the batches of a feed: ``"flush"``, ``"barrier"``, ``"watermark"`` or ``"idle"``, and its value."""

    kind: str | HeaderKind
    value: Any = None


Feed = Iterable[Any]
"""Batches and :class:`Mark`, in the order in which a source sends them."""


def operator(
    env: WorkerEnvironment,
    name: str,
    *,
    sources: Sequence[int] | Sequence[Sequence[int]],
    targets: Sequence[int],
    mode: Literal["batch", "stream"] = "batch",
    label: str = "",
    group: Group | None = None,
    **options: Any,
) -> NetOperator:
    """Make this worker's end of an operator of the catalogue.

    :param name: e.g. ``"partition"``, or ``"<ops plugin>.<operator>"`` of another plugin that the job has selected.
    :param sources: worker id of each source task; for operators with several inputs
        a list of such lists, one per input. :param targets: worker id of each target task.
    :param mode: ``"stream"`` for marks that aggregating operators emit at. :param label: for messages.
    :param group: who takes part; all workers when None. :param options: of the operator.
    :raises OperatorError: unknown name or option, a wrong one, tasks on workers that are not in the group.
    :raises StepMismatchError: another member gave other tasks or other values of the options.
    """
    plugin, _, operator_name = name.rpartition(".")
    network = env.network
    where = group or network.world
    flat, inputs = _tasks(name, sources)
    to = _tasks(name, targets)[0]
    strange = sorted({worker for worker in (*flat, *to) if worker not in where.members})
    if strange or where.rank_of(network.worker_id) < 0:
        raise OperatorError(
            f"{name} has tasks on workers {strange}" if strange else f"worker {network.worker_id} made {name}",
            why=f"the group's members are {list(where.members)}",
            remedy="place its tasks on members of the group, and make it on members only",
        )

    def make(step: Step) -> OperatorContext:
        return OperatorContext(
            operator_name, 0, label, flat, to, options, mode, step, network, env.memory, inputs
        )  # fmt: skip

    tasks = f"{list(flat)}{f' inputs {list(inputs)}' if inputs else ''} to {list(to)}"
    shape = f"{mode} {described(options, tasks)}"
    return NetOperator(env, plugin or "net", operator_name, shape, where, make)


def _tasks(name: str, given: Iterable[Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Worker ids of tasks, any integers; and how many each input has, where they are given by input."""
    flat: list[int] = []
    counts: list[int] = []
    several = False
    try:
        for one in given:
            before = len(flat)
            try:
                flat.append(index(one))
            except TypeError:
                several = True
                flat += map(index, one)
            counts.append(len(flat) - before)
    except TypeError as error:
        raise OperatorError(
            f"the tasks of {name} are {short(given)}",
            why=f"tasks are given by worker ids, or by a list of these for each input: {error}",
            remedy="give a list of integers",
        ) from error
    return tuple(flat), tuple(counts) if several else ()


class NetOperator:
    """One worker's end of an operator, see :func:`operator`. A context manager.

    Leaving the ``with`` block normally waits until what was sent has left, and is an error while a local source has not
    finished or a local target has not taken its END: others would wait for ever, or records be lost.

    :ivar local_sources, local_targets: indexes of the tasks on this worker.
    """

    def __init__(
        self,
        env: WorkerEnvironment,
        plugin: str,
        name: str,
        shape: str,
        group: Group,
        make: Callable[[Step], OperatorContext],
    ) -> None:
        self._network = env.network
        self._group = group
        self._name = f"{plugin}.{name}"
        self._shape = shape
        self._over = False
        self._patience_s: float | None = env.config.get("job", {}).get("barrier_deadline_s") or None
        self._step: Step = self._begin()
        try:
            context = make(self._step)
            self._operator: Operator = env.backend("ops", plugin).create(context)
        except BaseException as error:
            self._step.__exit__(type(error), error, error.__traceback__)
            raise
        self._label = f"{self._name} '{context.label}'" if context.label else self._name
        self.local_sources = context.local_sources
        self.local_targets = context.local_targets
        self._held_back = HeldBack(context.memory, self._label, self._operator)
        self._taken_in = TakenIn(context.memory, self._label, self._operator, self.local_targets)

    def _begin(self) -> Step:
        self._finished: set[int] = set()
        self._ended: set[int] = set()
        self._marks: dict[int, int] = {}
        return self._network.step(self._name, self._shape, group=self._group).__enter__()

    def __enter__(self) -> NetOperator:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._over:
            return
        self._over = True
        left = exc[1]
        try:
            if left is None:
                self._check_over()
                self.wait_until(lambda: self._operator.is_complete and not self._held_back)
        except BaseException as error:
            left = error
            raise
        finally:
            try:
                self._taken_in.close()
                self._held_back.close()
                self._operator.close()
            finally:
                self._step.__exit__(*((None, None, None) if left is None else (type(left), left, exc[2])))

    def close(self) -> None:
        """End it without a ``with`` block.

        :raises OperatorError: a local source has not finished, or a local target has not taken its END.
        """
        self.__exit__(None, None, None)

    def _check_over(self) -> None:
        still = self._open()
        if still:
            raise OperatorError(
                f"worker {self._network.worker_id} left {self._label} before it was complete",
                why="; ".join(still),
                remedy="finish() every source and take all items(), or use run() or drive(), before the block ends",
                where=self._step.fingerprint.line,
            )

    def _open(self) -> list[str]:
        """The local sources that have not finished, and the local targets that have not taken their END."""
        still = []
        sources = [source for source in self.local_sources if source not in self._finished]
        targets = [target for target in self.local_targets if target not in self._ended]
        if sources:
            still.append(f"sources {sources} have not finished")
        if targets:
            still.append(f"targets {targets} have not taken their END")
        return still

    # -- without waiting -------------------------------------------------------------------------------------------

    def send(self, source: int, batch: Batch) -> bool:
        """Offer a batch of a local source; False when it cannot be taken now: pump, and offer the same batch again."""
        return not self._holds_back(source) and self._operator.send(source, batch)

    def _holds_back(self, source: int) -> bool:
        """Whether what a source sends must wait behind what is held back of it."""
        if source not in self._held_back:
            return False
        if source in self._finished:
            raise OperatorError(
                f"{self._label} cannot take anything from source {source}",
                why=f"source {source} has finished",
                remedy="send only from local sources that have not finished",
            )
        return True

    def mark(self, source: int, kind: str | HeaderKind | Mark, value: Any = None) -> None:
        """Send a mark behind what ``source`` has sent.

        :param kind: ``"flush"``, ``"barrier"``, ``"watermark"`` or ``"idle"``; or a :class:`Mark`, which has its value.
        """
        if isinstance(kind, Mark):
            value = kind.value
            kind = kind.kind
        known = _KINDS.get(kind.lower()) if isinstance(kind, str) else kind
        if known is None or known not in _MARKS:
            raise OperatorError(
                f"{self._name} has no mark {kind!r}", why=f"marks are {', '.join(_KINDS)}", remedy="name one of these"
            )
        if self._holds_back(source):
            self._held_back.mark(source, known, value)
        else:
            self._operator.mark(source, known, value)
        if known in _CLOSING:
            self._marks[source] = self._marks.get(source, 0) + 1

    def finish(self, source: int | None = None) -> None:
        """This source, or every local one, sends nothing more. May be called again."""
        for one in self.local_sources if source is None else [source]:
            if one not in self._held_back:
                self._operator.finish(one)
            elif one not in self._finished:
                self._held_back.finish(one)
            self._finished.add(one)

    def receive(self, target: int | None = None) -> Item | None:
        """The next item for a local target (any when None), or None for now. The last one of a target is its END."""
        for one in self.local_targets if target is None else [target]:
            item = self._taken_in.next(one)
            if item is not None:
                if item.kind == HeaderKind.END:
                    self._ended.add(one)
                return item
        return None

    def pump(self) -> bool:
        """Move what can be moved without waiting; whether anything was."""
        moved = self._network.progress()
        return self._progress() or moved

    def _progress(self) -> bool:
        moved = self._operator.progress()
        return (self._held_back.progress() or moved) if self._held_back else moved

    @property
    def is_complete(self) -> bool:
        """Whether everything was sent, and END received for all local targets."""
        return self._operator.is_complete and not self._taken_in and not self._held_back

    @property
    def counters(self) -> EdgeCounters:
        """Records, bytes and messages of this end, and the seconds in which its sources were refused."""
        return self._operator.counters

    def snapshot(self) -> bytes | None:
        """What was held here at the last barrier that all local targets have received; None when nothing was."""
        return self._taken_in.snapshot()

    def restore(self, state: bytes | None) -> None:
        """Take back what :meth:`snapshot` gave, before anything is sent."""
        if state is not None:
            self._operator.restore(state)

    def reset(self) -> None:
        """Make ready for another run, in the group's next step; on all members, and only when complete."""
        if not self.is_complete:
            raise OperatorError(
                f"{self._name} was reset before it was complete",
                why="a source has not finished, or a target has not taken its END",
                remedy="receive until is_complete, or leave the with block",
            )
        self._step.__exit__(None, None, None)
        self._step = self._begin()
        self._operator.reset(self._step)
        self._taken_in.close()
        self._taken_in.begin()

    # -- with waiting ----------------------------------------------------------------------------------------------

    def wait_until(self, ready: Callable[[], bool], deadline_s: float | None = None) -> None:
        """Pump until ``ready()``.

        :raises DeadlineError: ``deadline_s`` seconds are over; it says which sources and targets are open.
        """

        def turn() -> bool:
            self._progress()
            return ready()

        self._wait(turn, self._patience_s if deadline_s is None else deadline_s)

    def _waits_for(self) -> str:
        """What is told of this worker while it reads: its own sources that others may wait for."""
        sources = [source for source in self.local_sources if source not in self._finished]
        return f"{self._label}, its sources {sources} have not finished" if sources else self._label

    def _wait(self, turn: Callable[[], bool], deadline_s: float | None, what: str = "") -> None:
        try:
            self._network.wait_until(turn, what or self._label, deadline_s, step=self._step)
        except DeadlineError as error:
            if deadline_s is None:
                raise
            still = self._open()
            silent = getattr(self._operator, "silent_workers", None)
            if silent:
                still.append(f"the sources on workers {silent} have not ended")
            raise DeadlineError(
                f"worker {self._network.worker_id} waited {deadline_s:g} s for {self._label}",
                why="; ".join([*(still or ["what was sent has not been taken"]), error.why]),
                remedy="finish() every source and read every target on its worker, or give a longer deadline",
                where=error.where,
                details=error.details,
            ) from error

    def put(self, source: int, batch: Batch, deadline_s: float | None = None) -> None:
        """Send a batch, waiting for room. Meanwhile what comes to the local targets is taken in for :meth:`receive` and
        its like, which give it first; it goes to disk when memory gets short. So all workers may send everything
        before they read, as far as memory and disks allow. A source that has sent a barrier or flush mark which another
        source here has not does not wait for room either, which would never come: what it puts is held back.

        :raises DeadlineError: there was no room within ``deadline_s`` seconds.
        :raises SpillError: what was taken in fits neither into memory nor on the disks.
        """

        def sent() -> bool:
            while not self.send(source, batch):
                if not self._taken_in.take():
                    return False
            return True

        if self.send(source, batch):
            return
        if source in self._held_back or self._is_ahead(source):
            self._held_back.put(source, batch)
            self.pump()
        else:
            self.wait_until(sent, deadline_s)

    def _is_ahead(self, source: int) -> bool:
        """Whether a source has sent a closing mark that another one here, which goes on, has not."""
        mine = self._marks.get(source, 0)
        others = [one for one in self.local_sources if one not in self._finished]
        return any(self._marks.get(one, 0) < mine for one in others)

    def items(self, deadline_s: float | None = None) -> Iterator[Item]:
        """Everything that comes to the local targets, until their ENDs (which are not given).

        A target ends once all its sources have finished, on this worker too: call :meth:`finish` before, or among the
        items. Where all members wait here and some source never finishes, nothing but the deadline ends the wait, as
        any of them could still send; ``twister2 status`` shows which sources are open.

        :raises DeadlineError: nothing came for ``deadline_s`` seconds.
        """
        found: list[Item] = []

        def come() -> bool:
            self._progress()
            item = self.receive()
            if item is not None:
                found.append(item)
            return bool(found) or self.is_complete

        while True:
            self._wait(come, self._patience_s if deadline_s is None else deadline_s, self._waits_for())
            if not found:
                return
            item = found.pop()
            if item.kind != HeaderKind.END:
                yield item

    def drive(
        self,
        feeds: Mapping[int, Feed] | None = None,
        take: Callable[[Item], object] | None = None,
        deadline_s: float | None = None,
    ) -> None:
        """Send what the feeds of the local sources give, finish them, and give every item (marks, but not END) to
        ``take``, until the operator is complete.

        :param feeds: by local source; one that has none is finished at once.
        :raises DeadlineError: it is not complete after ``deadline_s`` seconds.
        """
        given = feeds or {}
        open_feeds = {source: iter(given.get(source, ())) for source in self.local_sources}
        refused: dict[int, Any] = {}

        def offer(source: int, feed: Iterator[Any]) -> bool:
            nothing = object()
            batch = refused.pop(source, nothing)
            if batch is nothing:
                batch = next(feed, nothing)
            if batch is nothing:
                self.finish(source)
                del open_feeds[source]
            elif isinstance(batch, Mark):
                self.mark(source, batch.kind, batch.value)
            elif not self.send(source, batch):
                refused[source] = batch
                return False
            return True

        def turn() -> bool:
            moved = True
            while moved:
                moved = False
                for source, feed in list(open_feeds.items()):
                    moved = offer(source, feed) or moved
                moved = self._progress() or moved
                for target in self.local_targets:
                    while (item := self.receive(target)) is not None:
                        moved = True
                        if take is not None and item.kind != HeaderKind.END:
                            take(item)
            return self.is_complete

        self._wait(turn, deadline_s)

    def run(self, feeds: Mapping[int, Feed] | None = None, deadline_s: float | None = None) -> dict[int, list[Item]]:
        """As :meth:`drive`; the items of each local target, marks included."""
        found: dict[int, list[Item]] = {target: [] for target in self.local_targets}
        self.drive(feeds, lambda item: found[item.target].append(item), deadline_s)
        return found
