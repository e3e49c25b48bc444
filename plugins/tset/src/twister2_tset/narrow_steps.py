"""Steps within partitions: one record at a time, a batch at a time, a partition at a time."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, overload

import attrs

from twister2.spec.declarations import Declarations
from twister2.spec.errors import UsageError
from twister2.spec.relations import said
from twister2_tset.base import BaseSet
from twister2_tset.columns import Select, Where, WithSchema, check_where, same, schema_of, selected
from twister2_tset.keys import Keys, joint_key, names_or_keys, shown
from twister2_tset.narrow import Apart, BatchForm, Filter, FlatMap, Map, MapBatches, MapToTuple
from twister2_tset.nodes import StepNode, schema_behind
from twister2_tset.pair_steps import KeyBy, Sample
from twister2_tset.problems import check_choice, check_fraction, check_function, check_names, short
from twister2_tset.where import caller_line
from twister2_tset.whole import WholePartition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from twister2_tset.functions import CollectsWithContext, WithContext
    from twister2_tset.sets import TSet
    from twister2_tset.stored_sets import StoredSet

T = TypeVar("T")
R = TypeVar("R")
K = TypeVar("K")
V = TypeVar("V")


class NarrowSteps(BaseSet[T]):
    """See :class:`~twister2_tset.TSet`."""

    # -- a record at a time --------------------------------------------------------------------------------------------

    @overload
    def map(self, function: Callable[[T], R]) -> TSet[R]: ...
    @overload
    def map(self, function: WithContext[T, R]) -> TSet[R]: ...
    def map(self, function: Callable[..., Any]) -> TSet[Any]:
        """``function(record)`` for every record: a new one, which leaves the given one as it is."""
        check_function(function, "map", context=True)
        return self._step("map", shown(function), lambda: Map(function))

    @overload
    def flat_map(self, function: Callable[[T], Iterable[R]]) -> TSet[R]: ...
    @overload
    def flat_map(self, function: WithContext[T, Iterable[R]]) -> TSet[R]: ...
    def flat_map(self, function: Callable[..., Any]) -> TSet[Any]:
        """All items of ``function(record)``. ``flat_map(str.split)`` on text is done a block at a time."""
        check_function(function, "flat_map", context=True)
        return self._step("flat_map", shown(function), lambda: FlatMap(function))

    @overload
    def filter(self, predicate: Callable[[T], object]) -> TSet[T]: ...
    @overload
    def filter(self, predicate: WithContext[T, object]) -> TSet[T]: ...
    def filter(self, predicate: Callable[..., Any]) -> TSet[T]:
        """The records for which ``predicate(record)`` is true."""
        check_function(predicate, "filter", "predicate", context=True)
        return self._step("filter", shown(predicate), lambda: Filter(predicate))

    @overload
    def map_to_tuple(self, function: Callable[[T], tuple[K, V]]) -> TSet[tuple[K, V]]: ...
    @overload
    def map_to_tuple(self, function: WithContext[T, tuple[K, V]]) -> TSet[tuple[K, V]]: ...
    def map_to_tuple(self, function: Callable[..., Any]) -> TSet[Any]:
        """Pairs for keyed operations: ``function(record)`` returns ``(key, value)``."""
        check_function(function, "map_to_tuple", context=True)
        return self._step("map_to_tuple", shown(function), lambda: MapToTuple(function))

    @overload
    def key_by(self, key: str | Sequence[str]) -> TSet[tuple[Any, T]]: ...
    @overload
    def key_by(self, key: Callable[[T], K]) -> TSet[tuple[K, T]]: ...
    def key_by(self, key: Keys) -> TSet[tuple[Any, T]]:
        """Pairs ``(key(record), record)``; ``key`` may be the name of a column, or a list of names."""
        keys = names_or_keys([key], "key_by")
        self._check_columns("key_by", keys)
        function = joint_key(keys, "key_by")
        return self._step("key_by", shown(key), lambda: KeyBy(function))

    def sample(self, fraction: float, seed: int = 0) -> TSet[T]:
        """Each record with the probability ``fraction``: the same ones every time, for the same partitions and seed.

        :raises UsageError: ``fraction`` is no number from 0 to 1, or ``seed`` no whole number; or this set is whole on
            every worker: each copy would give others.
        """
        check_fraction(fraction)
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise UsageError(
                f"sample: seed is {short(seed)}",
                why="it makes all workers, and a second run, take the same records",
                remedy="give a whole number",
                where="sample",
            )
        self._check_once("sample")
        return self._step("sample", f"{fraction:g} of the records, seed {seed}", lambda: Sample(fraction, seed))

    # -- columns -------------------------------------------------------------------------------------------------------

    def map_batches(
        self,
        function: Callable[[Any], Any] | WithContext[Any, Any],
        *,
        form: BatchForm = "any",
        releases_gil: bool = False,
    ) -> TSet[Any]:
        """``function(batch)`` for every batch; it returns a batch (list, numpy array, Arrow record batch) or None.

        :param form: what the function is given: ``"list"``, ``"numpy"``, ``"arrow"``, or batches as they are. The
            records of an array that it returns are numpy scalars (or rows); return ``array.tolist()`` for Python's own.
        :param releases_gil: the function works outside the GIL, so that ``exec_threads`` may run it in its pool.
        """
        check_function(function, "map_batches", given=("batch",), context=True)
        check_choice(form, get_args(BatchForm), "map_batches", "form")
        return self._step(
            "map_batches", f"{shown(function)} on {form} batches", lambda: MapBatches(function, form, releases_gil)
        )

    def select(self, *names: str | Sequence[str]) -> TSet[dict[str, Any]]:
        """Only these columns, in this order: of rows (dicts), of Arrow batches and structured arrays, of named tuples.

        :param names: of columns, or a list of them.
        :raises UsageError: none is named.
        """
        columns: Any = names[0] if len(names) == 1 and isinstance(names[0], (list, tuple)) else names
        check_names(columns, "select")
        columns = tuple(columns)
        self._check_columns("select", columns)
        declares = Declarations(
            reads=columns,
            selects=True,
            with_columns=lambda some: lambda index: Select(some),
            never_more=True,
            schema=functools.partial(selected, columns=columns),
        )
        shows = f"select: {', '.join(columns)}"
        return self._new(
            StepNode(
                "select",
                caller_line(),
                shows,
                self._node,
                lambda: Select(columns),
                schema=selected(schema_behind(self._node), columns),
                declares=declares,
            )
        )

    @overload
    def where(
        self, column: str, relation: Literal["==", "!=", "<", "<=", ">", ">=", "in", "not in"], value: Any
    ) -> TSet[T]: ...
    @overload
    def where(self, column: str, relation: Literal["is null", "is not null"]) -> TSet[T]: ...
    def where(self, column: str, relation: str, value: Any = None) -> TSet[T]:
        """The records whose value in a column stands in ``relation`` to ``value``; a missing one (None) in ``is null``
        only.

        :raises UsageError: there is no such relation, or ``value`` is None where one is compared with.
        """
        check_names([column], "where")
        check_where(relation, value)
        self._check_columns("where", [column])
        declares = Declarations(predicate=((column, relation, value),), never_more=True, keeps_keys=True, schema=same)
        shows = f"where: {said(column, relation, short(value))}"
        return self._new(
            StepNode(
                "where", caller_line(), shows, self._node, lambda: Where(column, relation, value), declares=declares
            )
        )

    def with_schema(self, schema: Any) -> TSet[dict[str, Any]]:
        """The records as columns of these names and types: rows to functions, Arrow batches to ``map_batches``.

        :param schema: a ``pyarrow.Schema``, or names with types: ``{"name": str, "n": int, "small": "int32"}``. Records
            are rows (dicts), tuples in the order of the columns, or columns already. One that does not fit is an error.
        :raises UsageError: it is no schema.
        """
        columns = schema_of(schema)
        shows = ", ".join(f"{field.name}: {field.type}" for field in columns)
        return self._new(
            StepNode(
                "with_schema",
                caller_line(),
                f"with_schema: {shows}",
                self._node,
                lambda: WithSchema(columns),
                schema=columns,
                declares=Declarations(schema=lambda _: columns, reads=tuple(columns.names)),
            )
        )

    # -- a partition at a time -----------------------------------------------------------------------------------------

    @overload
    def compute(self, function: Callable[[Iterator[T]], R], *, collector: Literal[False] = False) -> TSet[R]: ...
    @overload
    def compute(self, function: WithContext[Iterator[T], R], *, collector: Literal[False] = False) -> TSet[R]: ...
    @overload
    def compute(
        self, function: Callable[[Iterator[T], Callable[[R], None]], object], *, collector: Literal[True]
    ) -> TSet[R]: ...
    @overload
    def compute(self, function: CollectsWithContext[Iterator[T], R], *, collector: Literal[True]) -> TSet[R]: ...
    def compute(self, function: Callable[..., Any], *, collector: bool = False) -> TSet[Any]:
        """One record per partition: ``function(records)``, which is given all records of the partition to walk over.

        They are held until all are there, on disk when memory gets short.

        :param collector: call ``function(records, collect)``: what it gives to ``collect(record)``, any number of
            times, are the records.
        """
        check_function(function, "compute", given=("records", "collect") if collector else ("records",), context=True)
        shows = f"{shown(function)} of whole partitions"
        gives: Literal["collector", "value"] = "collector" if collector else "value"
        return self._step("compute", shows, lambda: WholePartition(function, gives, "compute"), narrow=False)

    @overload
    def map_partitions(self, function: Callable[[Iterator[T]], Iterable[R]]) -> TSet[R]: ...
    @overload
    def map_partitions(self, function: WithContext[Iterator[T], Iterable[R]]) -> TSet[R]: ...
    def map_partitions(self, function: Callable[..., Any]) -> TSet[Any]:
        """All items of ``function(records)``, which is given all records of a partition, as :meth:`compute`.

        A generator is asked for more only when what it gave before has been taken.
        """
        check_function(function, "map_partitions", given=("records",), context=True)
        shows = f"{shown(function)} of whole partitions"
        return self._step(
            "map_partitions", shows, lambda: WholePartition(function, "records", "map_partitions"), narrow=False
        )

    def direct(self) -> TSet[T]:
        """The same records: what follows is a task of its own, not one with the steps before."""
        return self._exchange("direct", "to a task of its own", "net.direct", {}, make=Apart)

    def pipe(self) -> TSet[T]:
        """As :meth:`direct`: batches flow on as they come."""
        return self._exchange("pipe", "to a task of its own", "net.pipe", {}, make=Apart)

    # -- names and inputs ----------------------------------------------------------------------------------------------

    def named(self, name: str) -> TSet[T]:
        """This set with a name, for plans, progress displays and errors.

        :raises UsageError: it is no text, or empty.
        """
        check_names([name], "named")
        return self._new(attrs.evolve(self._node, name=name))

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
        self._check_other(stored, "add_input")
        if not node.inputs or name in node.given:
            raise UsageError(
                f"add_input: {node.title} can have no input {short(name)}",
                why="it has one of that name" if node.inputs else "a source has no functions of records",
                remedy="give it another name" if node.inputs else "add the input behind a step, such as map",
            )
        return self._new(attrs.evolve(node, given={**node.given, name: stored.node}))
