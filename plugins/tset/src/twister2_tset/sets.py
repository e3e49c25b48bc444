"""The set: typed, lazy, immutable. Steps give a new set; actions run one task graph and are collective."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from twister2.spec.errors import ResultError, UsageError
from twister2_tset.narrow import BatchForm, Filter, FlatMap, Map, MapBatches, MapToTuple, PassOn
from twister2_tset.nodes import End, ExchangeNode, Node, SourceNode, StepNode
from twister2_tset.partials import Best, CountRecords, Number, SortRecords, TopRecords
from twister2_tset.problems import check_count, check_function, nothing_to_reduce, short
from twister2_tset.sinks import (
    Discard,
    ForEach,
    KeepNumbered,
    KeepPartition,
    KeepValue,
    Value,
    WriteFiles,
    flattened,
)
from twister2_tset.sources import CachedSource
from twister2_tset.where import user_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from twister2.spec.tasks import Compute
    from twister2_tset.context import TSetContext

T = TypeVar("T")
R = TypeVar("R")
K = TypeVar("K")
V = TypeVar("V")

COLLECT_LIMIT = 1_000_000
"""Most records that ``collect`` and ``gather`` bring to every worker unless told otherwise."""

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
            "sort", shows, "net.partition", options, partitions, make=lambda: SortRecords(key, descending), narrow=False
        )

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
        if not isinstance(reducer, str):
            check_function(reducer, "reduce", "reducer")
        options: dict[str, Any] = {"reducer": reducer}
        if initial is not _NOTHING:
            options["initial"] = initial
        end = End(KeepValue, f"one value by {_name(reducer)}", "net.allreduce", options, everywhere=True)
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

    def cache(self) -> TSet[T]:
        """Run now and keep the records in memory, on the workers that have them; the set of what is kept."""
        context = self.context
        memory = context.env.memory
        title = self._title("cache")
        end = End(
            lambda: KeepPartition(lambda index: memory.reserve(f"{title} {index}")), "keeps its partition in memory"
        )
        mine = context.run(self._node, title, end)
        batches = {index: kept for index, kept, _ in mine}
        for _, _, reservation in mine:
            if reservation is not None:
                context.env.on_close(reservation.release)
        everybody = context.env.network.exchange_objects(sorted(batches), what=title)
        workers = {index: worker for worker, indices in enumerate(everybody) for index in indices}
        placed = tuple(workers[index] for index in range(len(workers)))
        node = SourceNode(
            "cached",
            user_line(),
            self._node.title,
            lambda index: CachedSource(batches[index]),
            len(placed),
            workers=placed,
        )
        return TSet(context, node)

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

    # -- inside --------------------------------------------------------------------------------------------------------

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
        make: Callable[[], Compute] = PassOn,
        narrow: bool = True,
    ) -> TSet[Any]:
        if partitions is not None:
            check_count(partitions, step, "partitions")
        node = ExchangeNode(
            step, user_line(), f"{step}: {shows}", self._node, operator, options, make, partitions, narrow
        )
        return TSet(self.context, node)

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

    @staticmethod
    def _title(step: str) -> str:
        return f"{step} ({user_line()})"


def _name(function: Any) -> str:
    if isinstance(function, str):
        return function
    return str(getattr(function, "__qualname__", None) or type(function).__qualname__).replace(".<locals>", "")
