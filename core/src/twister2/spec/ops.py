"""Kind ``ops``: communication operators on any transport.

An *operator* is one worker's end of one collective exchange between source tasks and target tasks: an edge of a graph,
or a call in a worker program. It is non-blocking and driven by its caller: ``send`` until it refuses, ``progress``,
``receive`` until None, ``finish``, until ``is_complete``. It sees the network through a
:class:`~twister2.spec.network.Port` and memory through the memory service; it never touches a transport.

Sources are batches of records; keyed operators take records that are ``(key, value)`` pairs, or Arrow batches with
named key columns. Marks (watermark, barrier, flush) travel in band: an operator forwards a mark to every target once
it has come over all inputs (aligned), after everything that was sent before it. An operator that holds records at a
hop either flushes before a barrier passes or hands its state to :meth:`Operator.snapshot`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import attrs

from twister2.spec.plugin import PluginSpec, hookspec
from twister2.spec.values import Value

if TYPE_CHECKING:
    from twister2.spec.batch import Batch
    from twister2.spec.channel import HeaderKind, Item
    from twister2.spec.memory import MemoryService
    from twister2.spec.network import EdgeCounters, Network, Step


@attrs.frozen(eq=False, repr=False)
class OptionInfo(Value):
    """One option of an operator: what it means and whether it must be given. Names are the same on all operators."""

    help: str
    required: bool = False
    default: Any = None


@attrs.frozen(eq=False, repr=False)
class OperatorInfo(Value):
    """What an operator declares. Rewriting rules and executors read this, never names.

    :ivar name: e.g. ``"keyed_reduce"``. :ivar summary: one line.
    :ivar shape: ``"one_to_one"`` (same parallelism), ``"many_to_one"``, ``"one_to_many"``, ``"many_to_many"``.
    :ivar modes: ``{"batch"}`` or with ``"stream"``.
    :ivar inputs: number of inputs: 1, 2 (join: left and right), or 0 for any number (union).
    :ivar keyed: records are (key, value) and land by key. :ivar combines: has an associative reducer that may be
        applied early (before a shuffle). :ivar keeps_order: records of one source reach a target in order.
    :ivar holds_records: keeps records at a hop until flush or end.
    :ivar delivers: ``"batches"`` as they come, ``"value"`` one result per target (a batch of one record; no batch when
        there were no records and no ``initial``), ``"all"`` every source's data to
        each target.
    :ivar options: by name.
    :ivar folded: of an operator that gathers the values of each key: the operator of the same plugin that gives what
        its option ``reducer`` makes of them instead; empty when there is none.
    :ivar partitions: how the pairs lie that it delivers, unless an option says otherwise (``partitioner``, a key of
        one's own): ``"hash"``: those of a key at the target :func:`~twister2.spec.hashing.task_of_key`; where there is
        an option ``pairs``, only when it is True. One that says so and has an option ``in_place`` (numbers of inputs)
        sends what task ``i`` of these gives to target ``i``: it lies so already.
    :ivar rows_by: ``rows_by(options)`` gives the column by whose hash the rows lie that an operator of one input
        delivers when it has these options, under the name that it has in the input; None: by no such. Where there is an
        option ``in_place``, rows of the input that lie so already stay as pairs do. None: it delivers no such rows.
    :ivar broadcasts: of an operator of two inputs that has an option ``broadcast``: the inputs (``"left"``,
        ``"right"``) that may go to all targets while the other stays where it is, and all targets together deliver
        the same records; by the value of its option ``how``.
    :ivar reads: ``reads(options, wanted, schemas)`` gives for each input the columns of its rows that the operator
        looks at when it has these options, with those that reach somebody behind it who looks at them; None: maybe all.
        ``wanted``: the columns that those behind it look at of what it delivers, None for all; ``schemas``: pyarrow's
        of the inputs, None where they are not known. Options need not be right yet. None: it may look at all.
    :ivar schema: ``schema(options, schemas)`` gives the pyarrow schema of the rows that it delivers, from those of its
        inputs; None for what is not known. None: nothing is.
    :ivar schema_options: of an operator that needs the columns of an input also when that gives no row: for each input
        the name of the option that takes its pyarrow schema. It is set where the schema is known.
    """

    name: str
    summary: str
    shape: Literal["one_to_one", "many_to_one", "one_to_many", "many_to_many"]
    modes: frozenset[str] = frozenset({"batch"})
    inputs: int = 1
    keyed: bool = False
    combines: bool = False
    keeps_order: bool = True
    holds_records: bool = False
    delivers: Literal["batches", "value", "all"] = "batches"
    options: Mapping[str, OptionInfo] = attrs.field(factory=dict)
    folded: str = ""
    partitions: str = ""
    rows_by: Callable[[Mapping[str, Any]], str | None] | None = None
    broadcasts: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    reads: (
        Callable[[Mapping[str, Any], tuple[str, ...] | None, Sequence[Any]], Sequence[tuple[str, ...] | None]] | None
    ) = None
    schema: Callable[[Mapping[str, Any], Sequence[Any]], Any] | None = None
    schema_options: tuple[str, ...] = ()


@attrs.frozen(eq=False, repr=False)
class OperatorContext(Value):
    """What an operator is made for.

    :ivar name: operator name. :ivar edge: number of the edge in the step. :ivar label: edge name, for messages.
    :ivar sources, targets: worker id of each source and target task; equal on all members.
    :ivar options: checked against :attr:`OperatorInfo.options`. :ivar step: the step it belongs to.
    :ivar inputs: number of source tasks of each input; ``sources`` has those of the first input first. Empty: all
        sources are of one input.
    """

    name: str
    edge: int
    label: str
    sources: tuple[int, ...]
    targets: tuple[int, ...]
    options: Mapping[str, Any]
    mode: Literal["batch", "stream"]
    step: Step
    network: Network
    memory: MemoryService
    inputs: tuple[int, ...] = ()

    def input_of(self, source: int) -> int:
        """Which input a source task belongs to, from 0."""
        for index, count in enumerate(self.inputs):
            if source < count:
                return index
            source -= count
        return 0

    @property
    def local_sources(self) -> list[int]:
        me = self.network.worker_id
        return [index for index, worker in enumerate(self.sources) if worker == me]

    @property
    def local_targets(self) -> list[int]:
        me = self.network.worker_id
        return [index for index, worker in enumerate(self.targets) if worker == me]


class Operator(ABC):
    """One worker's end of one exchange. All calls come from the thread that runs the step."""

    info: OperatorInfo

    @abstractmethod
    def send(self, source: int, batch: Batch) -> bool:
        """Give a batch of a local source task to the operator. It owns the batch from then on if it returns True.

        :returns: False when it cannot take it now (no credit, memory): nothing was taken; progress and offer the *same*
            batch again.
        :raises UserCodeError: a user function (reducer, partitioner, key) raised; names the record.
        :raises OperatorError: wrong kind of record (a keyed operator got something that is no pair...).
        """

    @abstractmethod
    def mark(self, source: int, kind: HeaderKind, value: Any = None) -> None:
        """Send a mark (BARRIER, WATERMARK, IDLE, FLUSH) behind what ``source`` has sent. Never refused."""

    @abstractmethod
    def finish(self, source: int) -> None:
        """``source`` sends nothing more. Never refused; idempotent. What is held for it is sent by ``progress``."""

    @abstractmethod
    def progress(self) -> bool:
        """Do what can be done without waiting (send what is held, take in what came); whether anything was done.

        Does not call ``network.progress``: its caller does that once for all operators.

        :raises UserCodeError, OperatorError: as :meth:`send`, of what was held or came.
        :raises MemoryBudgetError: what is held does not fit, and nothing can be spilled. After any error the operator
            can only be closed: the step is over.
        """

    @abstractmethod
    def receive(self, target: int) -> Item | None:
        """The next item for a local target task, or None for now. END comes exactly once per target, last.

        :raises UserCodeError, OperatorError, MemoryBudgetError: as :meth:`progress`.
        """

    @property
    @abstractmethod
    def is_complete(self) -> bool:
        """Whether all local sources have finished, everything held has been sent, and END was received for all local
        targets.
        """

    def snapshot(self) -> bytes | None:
        """State held at a hop at the last BARRIER that :meth:`receive` has given for all local targets, whatever has
        come behind it since; None when it flushed or holds nothing.
        """
        return None

    def restore(self, state: bytes) -> None:
        """Take back what :meth:`snapshot` gave."""
        raise TypeError(f"{type(self).__name__} has no state to restore")

    @abstractmethod
    def reset(self, step: Step) -> None:
        """Make ready for another run in a new step, without rebuilding; called only when complete. No record of the
        run before is left in it.
        """

    @abstractmethod
    def close(self) -> None:
        """Release ports and reservations, also in the middle and after an error. Idempotent; waits for nobody."""

    @property
    @abstractmethod
    def counters(self) -> EdgeCounters:
        """Counters of this end."""


class Operators(ABC):
    """The backend: a catalogue of operators."""

    @abstractmethod
    def catalog(self) -> Mapping[str, OperatorInfo]:
        """All operators by name; the same in every process, without side effects. Asked often: keep it."""

    @abstractmethod
    def create(self, context: OperatorContext) -> Operator:
        """Make this worker's end. Called on every member of the step's group, with equal arguments.

        :raises OperatorError: unknown name; a missing, unknown or wrong option; a shape that does not fit. Its
            text names the operator.
        """

    def names(self) -> Sequence[str]:
        return sorted(self.catalog())


class OpsSpec(PluginSpec):
    """Base of every ``twister2.ops`` plugin."""

    kind: ClassVar[str] = "ops"

    @hookspec(firstresult=True)
    def ops_create(self, config: Any) -> Operators | None:
        """Build the catalogue. Called in client (for ``explain``) and workers."""
