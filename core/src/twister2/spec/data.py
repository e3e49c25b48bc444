"""Kind ``data``: data sources and sinks by URI scheme and format.

Reading has two phases. ``plan`` runs on *one* worker, and its result is broadcast: it looks at the outside (file lists,
partitions, statistics) and cuts the input into *splits*, plain data each of which one task reads. ``open`` runs where
the split is read and gives a :class:`Reader`, which is polled and never blocks long.

Who calls what, all of it in the thread that runs the program or the step, one call at a time: ``plan`` one worker;
``open``, ``create_writer`` and what they give the worker that has the task; ``commit`` one worker, once ``prepare`` has
succeeded for all tasks. Errors are DataError and its kinds, and end the job's attempt; after one, readers are closed,
writers aborted and closed. Nothing here starts threads that outlive ``close``.

Thought through against a Kafka partition (unbounded; position and restore; a transactional sink) and a 1 TB Parquet
folder (thousands of splits with preferred hosts; columns and row groups pruned at plan time).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from twister2.spec.plugin import PluginSpec, hookspec
from twister2.spec.values import Value

if TYPE_CHECKING:
    from twister2.spec.batch import Batch
    from twister2.spec.tasks import EndOfData


@attrs.frozen(eq=False, repr=False)
class ReadRequest(Value):
    """What is to be read.

    :ivar uris: paths, globs or URIs, as given. :ivar format: ``"text"``, ``"csv"``, ``"parquet"``..., of the backend's
        formats.
    :ivar columns: wanted columns, None for all. :ivar predicate: ``[(column, "==", value), ...]`` (all must hold; a
        null satisfies none but ``is null``): readers give exactly the rows that satisfy it, and planning may leave out
        whole splits by it. A backend that cannot filter a format raises UsageError in ``plan`` when there is one.
    :ivar options: of the format, checked by the backend.
    :ivar attempt: the job's attempt, for sources that let only the newest of several consumers read; 0: in no job.
    """

    uris: tuple[str, ...]
    format: str
    columns: tuple[str, ...] | None = None
    predicate: tuple[tuple[str, str, Any], ...] = ()
    options: Mapping[str, Any] = attrs.field(factory=dict)
    attempt: int = 0


@attrs.frozen(eq=False, repr=False)
class Split(Value):
    """One piece of the input, plain data.

    :ivar label: for people, e.g. ``"a.txt [0, 67108864)"``. :ivar spec: what the reader needs (JSON types).
    :ivar n_bytes: size if known, else 0; tasks get splits so that their sums are close. :ivar hosts: where it is near.
    """

    label: str
    spec: Mapping[str, Any]
    n_bytes: int = 0
    hosts: tuple[str, ...] = ()


@attrs.frozen(eq=False, repr=False)
class ReadPlan(Value):
    """The result of planning.

    :ivar splits: in input order. :ivar bounded: whether it ends. :ivar schema: the pyarrow schema of all batches of the
        readers; None for lists of objects, and where it is not known. :ivar skipped: inputs left out, with the reason,
        in words.
    """

    splits: tuple[Split, ...]
    bounded: bool = True
    schema: Any = None
    skipped: tuple[str, ...] = ()


def assign_splits(splits: Sequence[Split], n_tasks: int) -> tuple[tuple[Split, ...], ...]:
    """Deal splits to tasks: task ``i`` gets the ``i``-th run of consecutive splits, so input order is kept.

    Cut by ``n_bytes`` (a split of unknown size counts as one byte): no task's sum exceeds an even share by more than
    one split. A pure function of its arguments: every worker that computes it gets the same answer.

    :param n_tasks: 1 or more; some tasks get nothing when there are fewer splits than tasks.
    """
    if n_tasks < 1:
        raise ValueError(f"n_tasks must be at least 1, got {n_tasks}")
    sizes = [max(1, split.n_bytes) for split in splits]
    runs: list[list[Split]] = [[] for _ in range(n_tasks)]
    total, before = sum(sizes), 0
    for split, size in zip(splits, sizes, strict=True):
        # A split goes to the task in whose even share its middle lies.
        runs[(2 * before + size) * n_tasks // (2 * total)].append(split)
        before += size
    return tuple(map(tuple, runs))


class Reader(ABC):
    """Reads splits, one after another. Used by one task; called by the thread that runs the step."""

    @abstractmethod
    def poll(self) -> Batch | EndOfData | None:
        """The next batch, None for nothing right now, END after the last split. Bounded work per call (about
        ``batch_bytes`` or one message fetch).

        :raises DataError: names file, offset or row, and what is wrong.
        """

    def position(self) -> Any:
        """Where reading would go on: JSON-able; covers everything returned by ``poll`` so far. Before the first
        ``poll``: the beginning.

        :raises TypeError: this reader has no positions.
        """
        raise TypeError(f"{type(self).__name__} has no position")

    def restore(self, position: Any) -> None:
        """Go on from a position of a reader over the same splits, before the first ``poll``. Opens nothing yet.

        :raises TypeError: this reader has no positions. That the input has changed since is a DataError of ``poll``.
        """
        raise TypeError(f"{type(self).__name__} has no position")

    def counters(self) -> Mapping[str, float]:
        """``bytes``, ``records``, ``skipped_files``... read so far."""
        return {}

    def skipped(self) -> Sequence[str]:
        """Inputs left out while reading (options such as ``on_decode_error=skip``), in words, so that they can be
        named.
        """
        return ()

    @abstractmethod
    def close(self) -> None:
        """Release files and connections; at any time, also after an error. Idempotent, never raises."""


@attrs.frozen(eq=False, repr=False)
class WriteRequest(Value):
    """What is to be written.

    :ivar uri: folder, file or topic. :ivar format: of the backend's formats.
    :ivar task, n_tasks: which part this is. :ivar attempt: names temporary output; leftovers of older ones are removed.
    :ivar key: ``"job/step/sink"``: a commit with the same key and checkpoint happens once.
    """

    uri: str
    format: str
    task: int
    n_tasks: int
    attempt: int
    key: str
    options: Mapping[str, Any] = attrs.field(factory=dict)


class Writer(ABC):
    """Writes one task's part in two phases. Used by one task."""

    @abstractmethod
    def write(self, batch: Batch) -> None:
        """Take a batch.

        :raises DataAccessError: disk full, no permission; nothing that was committed before is harmed.
        :raises DataFormatError: the batch does not fit the format or the schema of the batches before.
        """

    @abstractmethod
    def prepare(self, checkpoint: int) -> list[Any]:
        """Make everything written since the last call durable but invisible; returns JSON-able committables, enough
        for any worker to commit them. May block for as long as the storage takes.

        :raises DataAccessError: it cannot be made durable; the attempt ends without a commit.
        """

    @abstractmethod
    def abort(self) -> None:
        """Remove what was written and not prepared. Idempotent; what cannot be removed is left to the next attempt's
        writers, without an error.
        """

    @abstractmethod
    def close(self) -> None:
        """Release resources, and remove what was not prepared. Called after ``abort`` too. Idempotent, never raises."""


class DataBackend(ABC):
    """The backend."""

    formats: ClassVar[tuple[str, ...]]
    schemes: ClassVar[tuple[str, ...]]

    @abstractmethod
    def plan(self, request: ReadRequest, n_tasks: int) -> ReadPlan:
        """Look at the outside and cut the input into splits for about ``n_tasks`` readers. Runs on one worker.

        Two plans of the same input are equal. May block while it looks.

        :raises DataNotFoundError: a path does not exist, a glob matches nothing. All such paths are named at once.
        :raises DataAccessError: it exists and cannot be looked at.
        :raises UsageError: an option, a column or a predicate that this backend does not know; never ignored.
        :raises DataFormatError: files of a columnar input have different schemas; names both.
        """

    @abstractmethod
    def open(self, request: ReadRequest, splits: Sequence[Split]) -> Reader:
        """A reader over these splits (there may be none), in order. Must be cheap and touches nothing outside: opening
        files is for the first ``poll``, and so are their errors.

        :raises DataFormatError: a split that no ``plan`` of this backend made (another version's).
        """

    @abstractmethod
    def create_writer(self, request: WriteRequest) -> Writer:
        """Open a writer for one task. Removes what older attempts of the same ``key`` left unfinished.

        :raises DataAccessError: the target cannot be written, or exists and ``overwrite`` is not set.
        """

    @abstractmethod
    def commit(self, request: WriteRequest, committables: Sequence[Any]) -> None:
        """Make prepared parts of all tasks visible. Runs on one worker; may be repeated with the same arguments after a
        crash and must then change nothing. No rename is assumed of the store. What was committed under the same ``key``
        and checkpoint by an earlier attempt stays as it is; what is prepared again is removed.

        :raises DataAccessError: it could not be done, or not all of it. The attempt ends; the next one writes and
            commits anew.
        """


class DataSpec(PluginSpec):
    """Base of every ``twister2.data`` plugin."""

    kind: ClassVar[str] = "data"
    formats: ClassVar[tuple[str, ...]]
    schemes: ClassVar[tuple[str, ...]]
    """Formats and URI schemes (``""`` is a plain path), so that one can be chosen without importing the backend."""

    @hookspec(firstresult=True)
    def data_create(self, config: Any) -> DataBackend | None:
        """Build the backend. Called once per attempt where it is first used; must not contact anything.

        :raises UsageError: options that exclude each other.
        """
