"""Actions: they run one graph on all workers together; every worker gets the same value."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from twister2.spec.declarations import Declarations
from twister2.spec.errors import ResultError, UsageError
from twister2_tset.base import NOTHING, BaseSet, reducer_options
from twister2_tset.folding import Fold, Moments, Totals, Zero, merge_moments, merge_totals
from twister2_tset.keys import Key, key_function, shown
from twister2_tset.memo import Identity
from twister2_tset.nodes import End, Leaf, StepNode, schema_behind
from twister2_tset.pair_steps import Head
from twister2_tset.partials import Best, CountRecords, Number, TopRecords
from twister2_tset.problems import ADDING, TWO, check_count, check_function, empty_set, nothing_to_reduce, short
from twister2_tset.reducing import checked
from twister2_tset.showing import table_of
from twister2_tset.sinks import Discard, Guard, KeepNumbered, KeepValue, Value, flattened
from twister2_tset.taking import Stops, stoppable
from twister2_tset.where import caller_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from twister2.spec.tasks import Compute
    from twister2_tset.narrow import BatchForm

T = TypeVar("T")
A = TypeVar("A")

ANY_ACTION = End(Discard, "what an action puts here", declares=Declarations(indifferent=True))
"""Stands for actions in plans that are shown."""

COLLECT_LIMIT = 1_000_000
"""Most records that ``collect`` and ``gather`` bring to every worker unless told otherwise."""

COLLECT_LIMIT_MB = 1024
"""Most of what they take there, in MiB, unless told otherwise."""


class Actions(BaseSet[T]):
    """See :class:`~twister2_tset.TSet`."""

    # -- numbers -------------------------------------------------------------------------------------------------------

    def count(self) -> int:
        """Number of records."""
        self._check_once("count")
        partial = ("records of each partition", CountRecords)
        value: int = self._value("count", (), partial, {"reducer": "sum"}, 0)
        return value

    def sum(self, value: Key | Callable[[T], Any] | None = None) -> Any:
        """The sum of the records, or of ``value`` (a function of a record, or the name of a column); 0 of none.

        Whole numbers do not overflow. Missing values (None) of a column are left out, here and in :meth:`mean` and
        :meth:`variance`.
        """
        self._check_once("sum")
        return self._moments("sum", value, squares=False).total

    def mean(self, value: Key | Callable[[T], Any] | None = None) -> Any:
        """The mean of the records, or of ``value``, as :meth:`sum`.

        :raises GraphError: there are none.
        """
        return self._some("mean", value, squares=False).average()

    def variance(self, value: Key | Callable[[T], Any] | None = None, *, ddof: int = 0) -> float:
        """The variance: squared differences from the mean, over the number of records less ``ddof``; NaN when that is
        not positive.

        :raises GraphError: there are no records.
        """
        check_count(ddof, "variance", "ddof", 0)
        if ddof:
            self._check_once("variance")
        return self._some("variance", value, squares=True).variance(ddof)

    def std(self, value: Key | Callable[[T], Any] | None = None, *, ddof: int = 0) -> float:
        """The standard deviation: the root of :meth:`variance`.

        :raises GraphError: there are no records.
        """
        check_count(ddof, "std", "ddof", 0)
        if ddof:
            self._check_once("std")
        return math.sqrt(self._some("std", value, squares=True).variance(ddof))

    # -- one value -----------------------------------------------------------------------------------------------------

    def reduce(self, reducer: Callable[[T, T], T] | str, *, initial: T = NOTHING) -> T:
        """All records combined to one value.

        :param reducer: an associative and commutative function of two records, which it leaves as they are; or ``sum``,
            ``prod``, ``min``, ``max``, ``and``, ``or``. :param initial: combined in once; the value of an empty set.
        :raises GraphError: the set is empty and there is no ``initial``.
        """
        self._check_once("reduce")
        _, options = reducer_options("reduce", reducer, initial)
        value: T = self._value("reduce", (reducer, Identity(initial)), None, options, NOTHING)
        if value is NOTHING:
            raise nothing_to_reduce(self._here("reduce"))
        return value

    def aggregate(
        self, zero: A | Callable[[], A], add: Callable[[A, T], A], merge: Callable[[A, A], A] | None = None
    ) -> A:
        """The records folded by ``add``, from ``zero`` on; the results of partitions by ``merge``.

        :param zero: what the fold of each partition begins with, and the value of an empty set: it must change nothing
            when it is merged in. A list, set or dict is copied; a function without arguments is called.
        :param merge: associative and commutative; ``add`` when None.
        """
        self._check_once("aggregate")
        check_function(add, "aggregate", "add", ADDING)
        combine: Any = add if merge is None else merge
        check_function(combine, "aggregate", "merge", TWO)
        begin = Zero(zero)
        options = {"reducer": checked(combine, "aggregate")}
        partial = (f"{shown(add)} in partitions", lambda: Fold(begin, add, "aggregate"))
        value = self._value("aggregate", (Identity(zero), add, merge), partial, options, NOTHING)
        return begin() if value is NOTHING else value  # type: ignore[no-any-return]

    def top(self, n: int, key: Key | Callable[[T], Any] | None = None, *, largest: bool = True) -> list[T]:
        """The ``n`` records with the largest (smallest) keys, in order; among equal keys the earliest records.

        What is missing comes last, as with :meth:`sort`: NaN, and behind it None.
        """
        self._check_once("top")
        check_count(n, "top", "n", 0)
        return self._top("top", n, key, largest=largest)

    def min(self, key: Key | Callable[[T], Any] | None = None) -> T:
        """The smallest record, or the one with the smallest ``key``; the first of several.

        :raises GraphError: there are no records.
        """
        return self._extreme("min", key, largest=False)

    def max(self, key: Key | Callable[[T], Any] | None = None) -> T:
        """The largest record, as :meth:`min`."""
        return self._extreme("max", key, largest=True)

    # -- records -------------------------------------------------------------------------------------------------------

    @overload
    def collect(
        self, *, limit: int | None = ..., limit_mb: int | None = ..., form: Literal["list"] = "list"
    ) -> list[T]: ...
    @overload
    def collect(self, *, limit: int | None = ..., limit_mb: int | None = ..., form: Literal["arrow"]) -> Any: ...
    def collect(
        self,
        *,
        limit: int | None = COLLECT_LIMIT,
        limit_mb: int | None = COLLECT_LIMIT_MB,
        form: Literal["list", "arrow"] = "list",
    ) -> Any:
        """All records in order of partitions, on every worker.

        :param form: a list, or ``"arrow"``: one ``pyarrow.Table``, without going through Python objects. That of no
            records has the columns that are known without them: of a table, of ``with_schema(...)``, of columns that
            were kept by ``cache()``; else none.
        :raises ResultError: there are more than ``limit``, or they take more than ``limit_mb`` MiB; None: never.
        :raises UsageError: there is no such form.
        """
        if form == "arrow":
            return self._table(limit, limit_mb)
        if form != "list":
            raise UsageError(
                f"collect: form is {short(form)}",
                why='it is "list" or "arrow"',
                remedy='of a pandas frame: collect(form="arrow").to_pandas()',
                where=self._here("collect"),
            )
        return flattened(self._numbered("collect", limit, limit_mb))

    def gather(self, *, limit: int | None = COLLECT_LIMIT, limit_mb: int | None = COLLECT_LIMIT_MB) -> list[list[T]]:
        """The records of each partition that has any, in order of partitions, on every worker.

        :raises ResultError: as :meth:`collect`.
        """
        parts: dict[int, list[T]] = {}
        for partition, _, chunk in self._numbered("gather", limit, limit_mb):
            parts.setdefault(partition, []).extend(chunk)
        return [parts[partition] for partition in sorted(parts)]

    def take(self, n: int) -> list[T]:
        """The first ``n`` records in order of partitions; fewer when there are no more.

        Sources are read only as far as needed when nothing but steps within partitions is between.
        """
        check_count(n, "take", "n", 0)
        return self._take("take", n)

    def first(self, default: T = NOTHING) -> T:
        """The first record, as :meth:`take`.

        :raises GraphError: there is none, and no ``default``.
        """
        found = self._take("first", 1)
        if found:
            return found[0]
        if default is NOTHING:
            raise empty_set("first", self._here("first"))
        return default

    def show(self, n: int = 20) -> None:
        """Print the first ``n`` records on worker 0, as a table: rows by their columns. Collective, as :meth:`take`."""
        check_count(n, "show", "n")
        found = self._take("show", n + 1)
        if not self.context.env.worker_id:
            print(table_of(found[:n], more=len(found) > n), flush=True)

    def is_empty(self) -> bool:
        """Whether there are no records, as :meth:`take`."""
        return not self._take("is_empty", 1)

    def explain(self, action: str | None = None, *arguments: Any, **options: Any) -> str:
        """The plan of this set as text: vertices, operators, rules applied, placement. Runs nothing.

        :param action: the name of an action, with the arguments that it would be called with: its plan, whole, as
            ``explain("sum", "price")``, ``explain("cache")``, ``explain("write_csv", "out")``. None: what is the same
            for most; what an action adds, and what rules do for it alone, is not there.
        :raises UsageError: it is no action.
        """
        if action is None:
            return self.context.explain(Leaf(self._node, "result", ANY_ACTION))
        from twister2_tset.planning import plan_of

        return plan_of(self._new(self._node), action, arguments, options)

    # -- inside --------------------------------------------------------------------------------------------------------

    def _here(self, step: str) -> str:
        """An action and what it was asked of, for errors: both with the user's lines."""
        return f"{self._title(step)} of {self._node.title}"

    def _value(
        self,
        step: str,
        form: tuple[Any, ...],
        partial: tuple[str, Callable[[], Compute]] | None,
        options: dict[str, Any],
        otherwise: Any,
    ) -> Any:
        """The one value that ``net.allreduce`` makes of what ``partial`` gives for each partition.

        :param form: what tells this action from others on this set.
        """
        title, node, line = self._title(step), self._node, caller_line()

        def leaf() -> Leaf:
            end = End(KeepValue, f"{step}: one value", "net.allreduce", options, everywhere=True)
            last = node if partial is None else StepNode(step, line, partial[0], node, partial[1], narrow=False)
            return Leaf(last, title, end)

        kept: Value | None = self.context.run_leaf(node, (title, *form), leaf)[0]
        return otherwise if kept is None else kept.value

    def _moments(self, step: str, value: Any, *, squares: bool) -> Moments:
        of = None if value is None else key_function(value, step, "value")
        self._check_columns(step, [value])
        options = {"reducer": merge_moments if squares else merge_totals}
        shows = f"{shown(of) if of else 'records'} of each partition"
        moments: Moments = self._value(
            step, (value, squares), (shows, lambda: Totals(of, step, squares=squares)), options, Moments()
        )
        return moments

    def _some(self, step: str, value: Any, *, squares: bool) -> Moments:
        moments = self._moments(step, value, squares=squares)
        if not moments.n:
            raise empty_set(step, self._here(step), "" if value is None else shown(value))
        return moments

    def _top(self, step: str, n: int, key: Any, *, largest: bool) -> list[T]:
        function = None if key is None else key_function(key, step)
        self._check_columns(step, [key])
        best = Best(n, largest, step)
        what = f"the {n} {'largest' if largest else 'smallest'} of each partition"
        partial = (what, lambda: TopRecords(best, function))
        ranked = self._value(step, (n, key, largest), partial, {"reducer": best}, [])
        return [one.record for one in ranked]

    def _extreme(self, step: str, key: Any, *, largest: bool) -> T:
        found = self._top(step, 1, key, largest=largest)
        if not found:
            raise empty_set(step, self._here(step))
        return found[0]

    def _numbered(
        self, step: str, limit: int | None, limit_mb: int | None, form: BatchForm = "list"
    ) -> list[tuple[int, int, Any]]:
        limit, limit_mb = (sys.maxsize if most is None else most for most in (limit, limit_mb))
        check_count(limit, step, "limit", 0)
        check_count(limit_mb, step, "limit_mb", 0)
        node, title, line = self._node, self._title(step), caller_line()
        guard = Guard(limit, limit_mb << 20, step, title, node.title)

        def leaf() -> Leaf:
            shows = "wraps batches with their place"
            numbered = StepNode(
                "number batches",
                line,
                shows,
                node,
                lambda: Number(guard, form),
                narrow=False,
                declares=Declarations(indifferent=step == "collect"),  # gather shows how the records lie
            )
            end = End(lambda: KeepNumbered(guard), "all records", "net.broadcast", everywhere=True)
            return Leaf(numbered, title, end)

        parts: list[tuple[int, int, Any]] = self.context.run_leaf(node, (title, limit, limit_mb, form), leaf)[0]
        return parts

    def _table(self, limit: int | None, limit_mb: int | None) -> Any:
        import pyarrow

        tables = [
            chunk if isinstance(chunk, pyarrow.Table) else pyarrow.Table.from_batches([chunk])
            for _, _, chunk in self._numbered("collect", limit, limit_mb, "arrow")
        ]
        if not tables:
            schema = schema_behind(self._node)
            return pyarrow.table({}) if schema is None else schema.empty_table()
        try:
            return pyarrow.concat_tables(tables, promote_options="permissive")
        except pyarrow.ArrowException as error:
            raise ResultError(
                f"collect: the records have no common schema: {error}",
                why="columns of one name have types that cannot be brought together",
                remedy="give them one: with_schema(...)",
                where=self._node.title,
            ) from error

    def _take(self, step: str, n: int) -> list[T]:
        node, title, line = self._node, self._title(step), caller_line()
        if not n:
            self.context.check_open(title)
            return []

        def leaf() -> Leaf:
            stops = Stops()
            guard = Guard(sys.maxsize, sys.maxsize, step, title, node.title)
            head = StepNode(
                step,
                line,
                f"the first {n:,} of each partition",
                stoppable(node, stops),
                lambda: Head(n, stops.indices.add),
                narrow=False,
            )
            numbered = StepNode(
                "number batches", line, "with their place", head, lambda: Number(guard, "list"), narrow=False
            )
            end = End(lambda: KeepNumbered(guard), "the first records", "net.broadcast", everywhere=True)
            return Leaf(numbered, title, end)

        return flattened(self.context.run_leaf(node, (title, n), leaf)[0])[:n]
