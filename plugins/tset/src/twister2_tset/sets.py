"""The set: typed, lazy, immutable. Steps give a new set; actions run one task graph and are collective."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import attrs

from twister2.graph import Stored
from twister2.spec.errors import ResultError, UsageError
from twister2_tset.narrow import BatchForm, Filter, FlatMap, Map, MapBatches, MapToTuple, PassOn
from twister2_tset.nodes import End, ExchangeNode, Node, StepNode, StoredNode
from twister2_tset.partials import Best, CountRecords, Number, SortRecords, TopRecords
from twister2_tset.problems import check_count, check_function, nothing_to_reduce, short
from twister2_tset.sinks import (
    Discard,
    ForEach,
    KeepNumbered,
    KeepValue,
    Value,
    WriteFiles,
    flattened,
)
from twister2_tset.where import user_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from twister2.spec.tasks import Compute
    from twister2_tset.context import TSetContext
    from twister2_tset.stored_sets import StoredSet

    Level = Literal["memory", "disk"]

T = TypeVar("T")
R = TypeVar("R")
K = TypeVar("K")
V = TypeVar("V")

COLLECT_LIMIT = 1_000_000
"""Most records that ``collect`` and ``gather`` bring to every worker unless told otherwise."""

JoinKind = Literal["inner", "left", "right", "full"]

_NOTHING: Any = object()
_FORMS = ("any", "list", "numpy", "arrow")


class TSet(Generic[T]):
    """Records of type ``T``, spread over the workers in partitions.

    Made by a :class:`~twister2_tset.TSetContext` and by steps of other sets. Nothing runs before an action. Actions
    are collective: every worker calls them in the same order and gets the same value (``count``, ``reduce``, ``top``,
    ``collect``, ``gather``) or nothing (``for_each``, ``write_*``); ``cache`` gives a set.
    """

    def __init__(self, context: TSetContext, node: Node) -> None:
        self.context = context
        self._node = node

    def __repr__(self) -> str:
        return f"<TSet {self._node.title}: {self._node.shows}>"

    def __iter__(self) -> Any:
        raise UsageError(
            "a TSet cannot be walked over",
            why="its records lie on several workers",
            remedy="use collect() for a small set, for_each(function), or map(function)",
        )

    # -- steps within partitions ---------------------------------------------------------------------------------------

    def map(self, function: Callable[[T], R]) -> TSet[R]:
        """``function(record)`` for every record."""
        check_function(function, "map")
        return self._step("map", _name(function), lambda: Map(function))

    def flat_map(self, function: Callable[[T], Iterable[R]]) -> TSet[R]:
        """All items of ``function(record)``. ``flat_map(str.split)`` on text is done a block at a time."""
        check_function(function, "flat_map")
        return self._step("flat_map", _name(function), lambda: FlatMap(function))

    def filter(self, predicate: Callable[[T], object]) -> TSet[T]:
        """The records for which ``predicate(record)`` is true."""
        check_function(predicate, "filter", "predicate")
        return self._step("filter", _name(predicate), lambda: Filter(predicate))

    def map_to_tuple(self, function: Callable[[T], tuple[K, V]]) -> TSet[tuple[K, V]]:
        """Pairs for keyed operations: ``function(record)`` returns ``(key, value)``."""
        check_function(function, "map_to_tuple")
        return self._step("map_to_tuple", _name(function), lambda: MapToTuple(function))

    def map_batches(
        self, function: Callable[[Any], Any], *, form: BatchForm = "any", releases_gil: bool = False
    ) -> TSet[Any]:
        """``function(batch)`` for every batch; it returns a batch (list, numpy array, Arrow record batch) or None.

        :param form: what the function is given: ``"list"``, ``"numpy"``, ``"arrow"``, or batches as they are. The
            records of an array that it returns are numpy scalars (or rows); return ``array.tolist()`` for Python's own.
        :param releases_gil: the function works outside the GIL, so that ``exec_threads`` may run it in its pool.
        """
        check_function(function, "map_batches")
        if form not in _FORMS:
            raise UsageError(
                f"map_batches: form is {short(form)}",
                why=f"the forms of batches are: {', '.join(_FORMS)}",
                remedy="give one of them",
            )
        return self._step(
            "map_batches", f"{_name(function)} on {form} batches", lambda: MapBatches(function, form, releases_gil)
        )

    # -- steps between partitions --------------------------------------------------------------------------------------

    def keyed_reduce(
        self: TSet[tuple[K, V]], reducer: Callable[[V, V], V] | str, *, partitions: int | None = None
    ) -> TSet[tuple[K, V]]:
        """One pair per key: its values combined.

        :param reducer: an associative and commutative function of two values, or ``sum``, ``prod``, ``min``, ``max``,
            ``and``, ``or``. :param partitions: of the result; as many as now when None.
        """
        if not isinstance(reducer, str):
            check_function(reducer, "keyed_reduce", "reducer")
        shows = f"values of equal keys by {_name(reducer)}"
        return self._exchange("keyed_reduce", shows, "net.keyed_reduce", {"reducer": reducer}, partitions)

    def count_by_value(self, *, partitions: int | None = None) -> TSet[tuple[T, int]]:
        """Pairs ``(record, how often it is there)``; records must be hashable."""
        return self._exchange("count_by_value", "how often each record is there", "net.count_by_value", {}, partitions)

    def sort(
        self, key: Callable[[T], Any] | None = None, *, descending: bool = False, partitions: int | None = None
    ) -> TSet[T]:
        """All records in order: within partitions and from each partition to the next.

        Ranges of about equal size are chosen from a sample. As with ``sorted``, records with equal keys keep the order
        they had in this set (by partition, then by place in it), with ``descending`` too. Keys that are not even equal
        to themselves (NaN) have no order: filter them out first, or give a ``key`` that places them.
        """
        if key is not None:
            check_function(key, "sort", "key")
        options: dict[str, Any] = {"partitioner": "range", "descending": descending, "ordered": True}
        if key is not None:
            options["key"] = key
        shows = f"by {_name(key) if key is not None else 'the records'}{', descending' if descending else ''}"
        return self._exchange(
            "sort", shows, "net.partition", options, partitions, make=lambda: SortRecords(key, descending)
        )

    def join(
        self: TSet[tuple[K, V]],
        other: TSet[tuple[K, R]],
        how: JoinKind = "inner",
        *,
        algorithm: Literal["hash", "sort"] = "hash",
        partitions: int | None = None,
    ) -> TSet[tuple[K, tuple[V | None, R | None]]]:
        """Pairs ``(key, (left, right))`` for all pairs of equal keys of this set and the other.

        :param how: ``inner``; ``left``, ``right``, ``full`` also give what has no partner, with None in its place.
        :param algorithm: ``hash``, or ``sort``: sorted runs, for keys that have an order.
        :param partitions: of the result; as many as the larger set when None.
        """
        options = {"how": how, "algorithm": algorithm}
        return self._exchange("join", f"{how}, by {algorithm}", "net.join", options, partitions, others=[other])

    def union(self, *others: TSet[T], partitions: int | None = None) -> TSet[T]:
        """The records of all these sets, in no particular order; records that are equal stay."""
        shows = f"with {len(others)} other{'s' if len(others) != 1 else ''}"
        return self._exchange("union", shows, "net.union", {}, partitions, others=others)

    def replicate(self) -> TSet[T]:
        """All records on every worker: one partition on each."""
        return self._exchange("replicate", "all records to every worker", "net.broadcast", {}, None, everywhere=True)

    def all_reduce(self, reducer: Callable[[T, T], T] | str, *, initial: T = _NOTHING) -> TSet[T]:
        """One record on every worker: all records combined, as :meth:`reduce`, but a step. Empty for an empty set
        without ``initial``.
        """
        shows, options = self._reducer("all_reduce", reducer, initial)
        return self._exchange("all_reduce", shows, "net.allreduce", options, None, everywhere=True)

    # -- actions -------------------------------------------------------------------------------------------------------

    def count(self) -> int:
        """Number of records."""
        counted = self._node_of("count records", "records of each partition", CountRecords)
        end = End(KeepValue, "the number", "net.allreduce", {"reducer": "sum"}, everywhere=True)
        value: int = self._value(counted, "count", end, 0)
        return value

    def reduce(self, reducer: Callable[[T, T], T] | str, *, initial: T = _NOTHING) -> T:
        """All records combined to one value.

        :param reducer: as :meth:`keyed_reduce`. :param initial: combined in once; the value of an empty set.
        :raises GraphError: the set is empty and there is no ``initial``.
        """
        shows, options = self._reducer("reduce", reducer, initial)
        end = End(KeepValue, shows, "net.allreduce", options, everywhere=True)
        value: T = self._value(self._node, "reduce", end, _NOTHING)
        if value is _NOTHING:
            raise nothing_to_reduce(self._node.title)
        return value

    def top(self, n: int, key: Callable[[T], Any] | None = None, *, largest: bool = True) -> list[T]:
        """The ``n`` largest records by ``key``, largest first; with ``largest=False`` the smallest, smallest first.

        Equal keys: the record of the earlier partition, and place in it, goes first.
        NaN has no order (see :meth:`sort`).
        """
        check_count(n, "top", "n", 0)
        if key is not None:
            check_function(key, "top", "key")
        if n == 0:
            return []
        best = Best(n, largest)
        chosen = self._node_of("top records", f"the best {n} of each partition", lambda: TopRecords(best, key))
        end = End(KeepValue, f"the best {n}", "net.allreduce", {"reducer": best}, everywhere=True)
        return [ranked.record for ranked in self._value(chosen, "top", end, [])]

    def collect(self, *, limit: int = COLLECT_LIMIT) -> list[T]:
        """All records, in order of partitions, on every worker.

        :raises ResultError: there are more than ``limit``.
        """
        return flattened(self._numbered("collect", limit))

    def gather(self, *, limit: int = COLLECT_LIMIT) -> list[list[T]]:
        """The records of each partition that has any, in order of partitions, on every worker.

        :raises ResultError: there are more than ``limit``.
        """
        parts: dict[int, list[T]] = {}
        for partition, _, chunk in self._numbered("gather", limit):
            parts.setdefault(partition, []).extend(chunk)
        return [parts[partition] for partition in sorted(parts)]

    def for_each(self, function: Callable[[T], object]) -> None:
        """Call ``function(record)`` for every record, on the worker that has it; returns when all workers are done."""
        check_function(function, "for_each")
        end = End(lambda: ForEach(function), f"calls {_name(function)}")
        title = self._title("for_each")
        self.context.run(self._node, title, end)
        # A worker without a partition has nothing to wait for in the graph.
        self.context.env.network.exchange_objects(None, what=title)

    def cache(self) -> StoredSet[T]:
        """Run now and keep the records in memory, on the workers that have them; on disk when memory gets short."""
        return self._kept("cache", "memory", lazy=False)

    def lazy_cache(self) -> StoredSet[T]:
        """As :meth:`cache`, when the records are first needed."""
        return self._kept("lazy_cache", "memory", lazy=True)

    def persist(self) -> StoredSet[T]:
        """Run now and keep the records on disk, on the workers that have them (options ``job.spill_dirs``)."""
        return self._kept("persist", "disk", lazy=False)

    def lazy_persist(self) -> StoredSet[T]:
        """As :meth:`persist`, when the records are first needed."""
        return self._kept("lazy_persist", "disk", lazy=True)

    def write_text(self, uri: str | os.PathLike[str], *, plugin: str = "file", **options: Any) -> None:
        """Write one line per record: a folder with one part per partition, visible all at once.

        ``options`` are the format's: ``overwrite``, ``single_file`` (needs one partition)...
        """
        self._write("write_text", "text", uri, plugin, options)

    def write_csv(self, uri: str | os.PathLike[str], *, plugin: str = "file", **options: Any) -> None:
        """Write CSV, as :meth:`write_text`; records are tuples, dicts, scalars, rows of arrays or Arrow batches."""
        self._write("write_csv", "csv", uri, plugin, options)

    def write_parquet(self, uri: str | os.PathLike[str], *, plugin: str = "file", **options: Any) -> None:
        """Write Parquet, as :meth:`write_csv`."""
        self._write("write_parquet", "parquet", uri, plugin, options)

    def explain(self) -> str:
        """The plan of this set as text: vertices, operators, rules applied, placement. Runs nothing."""
        return self.context.explain(self._node, End(Discard, "what an action puts here"))

    # -- inputs --------------------------------------------------------------------------------------------------------

    def add_input(self, name: str, stored: StoredSet[Any]) -> TSet[T]:
        """Give the functions of the step before a stored set: those that have a parameter ``context`` find its records
        by ``context.input(name)``.

        A set that is whole on every worker (``replicate``, ``all_reduce``) is given as a whole. Of another, partition
        ``i`` of this set gets partition ``i``, and lies where that does.

        :raises UsageError: this is a source, or the step has an input of that name.
        """
        from twister2_tset.stored_sets import StoredSet

        node = self._node
        if not isinstance(stored, StoredSet):
            raise UsageError(
                f"add_input: {short(stored)} is not kept",
                why="an input lies on the workers when the step begins",
                remedy="give a set that was kept: cache(), lazy_cache(), persist() or lazy_persist()",
            )
        if not node.inputs or name in node.given:
            raise UsageError(
                f"add_input: {node.title} can have no input {short(name)}",
                why="it has one of that name" if node.inputs else "a source has no functions of records",
                remedy="give it another name" if node.inputs else "add the input behind a step, such as map",
            )
        return TSet(self.context, attrs.evolve(node, given={**node.given, name: stored.node}))

    # -- inside --------------------------------------------------------------------------------------------------------

    @staticmethod
    def _reducer(step: str, reducer: Callable[[T, T], T] | str, initial: T) -> tuple[str, dict[str, Any]]:
        if not isinstance(reducer, str):
            check_function(reducer, step, "reducer")
        options: dict[str, Any] = {"reducer": reducer}
        if initial is not _NOTHING:
            options["initial"] = initial
        return f"one value by {_name(reducer)}", options

    def _step(self, step: str, shows: str, make: Callable[[], Compute]) -> TSet[Any]:
        return TSet(self.context, StepNode(step, user_line(), f"{step}: {shows}", self._node, make))

    def _node_of(self, step: str, shows: str, make: Callable[[], Compute]) -> Node:
        return StepNode(step, user_line(), shows, self._node, make, narrow=False)

    def _exchange(
        self,
        step: str,
        shows: str,
        operator: str,
        options: Mapping[str, Any],
        partitions: int | None,
        *,
        others: Sequence[TSet[Any]] = (),
        make: Callable[[], Compute] = PassOn,
        everywhere: bool = False,
    ) -> TSet[Any]:
        if partitions is not None:
            check_count(partitions, step, "partitions")
        for other in others:
            self._check_other(other, step)
        nodes = (self._node, *(other._node for other in others))
        node = ExchangeNode(
            step,
            user_line(),
            f"{step}: {shows}",
            nodes,
            operator,
            options,
            make,
            partitions,
            make is PassOn,
            everywhere,
        )
        return TSet(self.context, node)

    def _kept(self, step: str, level: Level, *, lazy: bool) -> StoredSet[T]:
        from twister2_tset.stored_sets import StoredSet, fill

        context, title = self.context, self._title(step)
        node = StoredNode("cached", user_line(), self._node.title, Stored(title, level), self._node)
        if not lazy:
            context.check_open(title)
            context.fill_all(self._node)
            fill(context, node)
        return StoredSet(context, node)

    def _value(self, node: Node, step: str, end: End, otherwise: Any) -> Any:
        kept: Value | None = self.context.run(node, self._title(step), end)[0]
        return otherwise if kept is None else kept.value

    def _numbered(self, step: str, limit: int) -> list[tuple[int, int, list[Any]]]:
        check_count(limit, step, "limit", 0)
        title = self._title(step)

        def refuse(number: int) -> ResultError:
            return ResultError(
                f"{title}: the set has more than {limit:,} records",
                why=f"every worker would hold all of them; at least {number:,} were found",
                remedy=f"use top, reduce or write_*, filter first, or raise the guard: {step}(limit=...)",
                where=self._node.title,
            )

        numbered = self._node_of("number batches", "wraps batches with their place", lambda: Number(limit, refuse))
        end = End(lambda: KeepNumbered(limit, refuse), "all records", "net.broadcast", everywhere=True)
        parts: list[tuple[int, int, list[Any]]] = self.context.run(numbered, title, end)[0]
        return parts

    def _write(
        self, step: str, form: str, uri: str | os.PathLike[str], plugin: str, options: Mapping[str, Any]
    ) -> None:
        target = os.fspath(uri)
        end = End(lambda: WriteFiles(plugin, target, form, options), f"{form} to {target}", two_phase=True)
        self.context.run(self._node, self._title(step), end)

    def _check_other(self, other: Any, step: str) -> None:
        if not isinstance(other, TSet):
            raise UsageError(
                f"{step}: {short(other)} is no set",
                why="it takes other sets of the same context",
                remedy="make a set of it: context.parallelize(...)",
            )
        if other.context.env is not self.context.env:
            raise UsageError(
                f"{step}: {other!r} belongs to another environment",
                why="sets of one environment lie on the workers of one attempt",
                remedy="make both sets with the environment that is running",
            )

    @staticmethod
    def _title(step: str) -> str:
        return f"{step} ({user_line()})"


def _name(function: Any) -> str:
    if isinstance(function, str):
        return function
    return str(getattr(function, "__qualname__", None) or type(function).__qualname__).replace(".<locals>", "")
