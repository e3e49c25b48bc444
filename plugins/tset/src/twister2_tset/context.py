"""The context: where sets begin, and what runs their actions."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

import attrs

from twister2.spec.batch import freeze, is_array, is_arrow, n_records
from twister2.spec.errors import UsageError
from twister2_tset.ends import LazyEnd
from twister2_tset.evaluation import Evaluation
from twister2_tset.figures import over_workers
from twister2_tset.memo import Memo
from twister2_tset.nodes import Leaf, Node, SourceNode, StoredNode, compile_action, in_order
from twister2_tset.problems import check_count, check_function, kind_of, short
from twister2_tset.reading import Readers
from twister2_tset.report import ReadReport
from twister2_tset.sets import TSet
from twister2_tset.sources import FunctionSource, Parts, of_frame
from twister2_tset.stored_sets import StoredSet, check_all_kept, check_kept, keeping
from twister2_tset.where import caller_line

if TYPE_CHECKING:
    from twister2.graph import Graph
    from twister2.spec.declarations import Declarations
    from twister2.spec.environment import WorkerEnvironment
    from twister2.spec.sched import TaskScheduler

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")
_contexts: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
"""How many contexts an environment has had: every worker counts the same."""


class TSetContext(Readers):
    """Makes sets on the workers of one environment. Every worker makes the same sets and calls the same actions.

    :param partitions: of sources that do not say; None: one per worker.
    :param name: of the graphs, for progress displays.
    :param without_rules: names of rewriting rules that must not be applied (``"fuse"``).
    :param scheduler: places the tasks of its graphs in place of the job's task scheduler; as of ``Graph``.
    """

    def __init__(
        self,
        env: WorkerEnvironment,
        *,
        partitions: int | None = None,
        name: str = "tset",
        without_rules: Iterable[str] = (),
        scheduler: TaskScheduler | None = None,
    ) -> None:
        if partitions is not None:
            check_count(partitions, "TSetContext", "partitions")
        self.env = env
        self.name = name
        self.partitions = partitions if partitions is not None else env.n_workers
        self.without_rules = tuple(without_rules)
        self.scheduler = scheduler
        self._evaluations: dict[tuple[int, int], Evaluation] = {}
        self._read = ReadReport()
        self._open = True
        self._memo = Memo()
        self._named = 0
        self._number = _contexts[env] = _contexts.get(env, 0) + 1
        env.on_close(self._close)

    # -- sources -------------------------------------------------------------------------------------------------------

    @overload
    def parallelize(self, data: Mapping[K, V], partitions: int | None = None) -> TSet[tuple[K, V]]: ...
    @overload
    def parallelize(self, data: Iterable[T], partitions: int | None = None) -> TSet[T]: ...
    def parallelize(self, data: Iterable[Any], partitions: int | None = None) -> TSet[Any]:
        """The records of a list (or of anything that can be walked over once), in equal contiguous parts; of a dict its
        pairs.

        Every worker gives the same data; each takes its parts of its own copy. A numpy array and an Arrow table stay
        columns: ``map_batches`` gets them as they are, functions of records get items, rows of an array, or dicts. A
        data frame (pandas from 2.2, polars) becomes such a table.

        :raises UsageError: the data is no collection, or a data frame that cannot be taken as a table.
        """
        data = of_frame(data)
        if is_array(data) or is_arrow(data):
            return self._columns(data, self._partitions(partitions, "parallelize"))
        if isinstance(data, (str, bytes)) or not isinstance(data, Iterable):
            raise UsageError(
                f"parallelize: the data is {short(data)}, {kind_of(data)}",
                why="it takes a list, a range or another collection of records",
                remedy="give a list; for the lines of a text: parallelize(text.splitlines())",
            )
        # Tuples, strings and arrays are cut as they are; what can be changed is copied, because the set is lazy.
        records: Sequence[Any]
        if isinstance(data, Mapping):
            records = list(data.items())
        else:
            records = data if isinstance(data, (tuple, range)) else list(data)
        # The number of records is part of the step's fingerprint: workers that give other lists are told so.
        options = {"records": str(len(records))}
        shows = f"{len(records):,} {'pairs of a dict' if isinstance(data, Mapping) else 'records of a list'}"
        number = self._partitions(partitions, "parallelize")
        return self._source("parallelize", shows, Parts(records, number), number, options=options)

    def _columns(self, data: Any, number: int) -> TSet[Any]:
        if is_array(data):
            if data.ndim == 0:
                raise UsageError(
                    "parallelize: the array has no axes",
                    why="the first axis of an array counts its records",
                    remedy="give array.reshape(1), or [value]",
                )
            if data.dtype.kind == "O":
                return self.parallelize(data.tolist(), number)
            data = freeze(data.copy())
        what = "array" if is_array(data) else "table"
        options = {"records": str(n_records(data))}
        shows = (
            f"{n_records(data):,} records of an {what}" if what == "array" else f"{n_records(data):,} rows of a table"
        )
        schema = None if what == "array" else data.schema
        return self._source("parallelize", shows, Parts(data, number), number, options=options, schema=schema)

    def source(self, function: Callable[[int], Iterable[T]], partitions: int | None = None) -> TSet[T]:
        """The records that ``function(partition)`` gives: a generator, or anything else to walk over.

        It is called once per partition and action, on the worker that has the partition.
        """
        check_function(function, "source", given=("partition",))
        number = self._partitions(partitions, "source")
        shows = f"records of {getattr(function, '__qualname__', 'a function')}()"
        return self._source("source", shows, lambda index: FunctionSource(function, index), number)

    # -- loops ---------------------------------------------------------------------------------------------------------

    def evaluating(self, source: TSet[T], into: StoredSet[T] | None = None) -> Evaluation:
        """The plan of ``source``, prepared to be executed many times; each call of what is returned fills ``into``::

            with context.evaluating(points.map(nearest).keyed_reduce(add).map(mean), into=centres) as step:
                for _ in range(100):
                    step()

        Collective. Nothing is planned, placed or connected again between the calls.

        :param into: a stored set; ``source`` itself, when that is one, if None.
        :raises UsageError: ``source`` is not stored and ``into`` is None; one of the two is replicated, the other not.
        """
        if into is None:
            into = self._stored(source, "evaluating")
        self.check_open("evaluating")
        return Evaluation(self, source, into)

    def eval(self, stored: StoredSet[T]) -> StoredSet[T]:
        """Make the records of a stored set again, from what they are made of now; the plan is kept until
        :meth:`finish_eval`. Collective.
        """
        stored = self._stored(stored, "eval")
        self._evaluate(stored, stored)
        return stored

    def eval_and_update(self, source: TSet[T], into: StoredSet[T]) -> None:
        """Make the records of ``source`` and put them in the place of those of ``into``; the plan is kept until
        :meth:`finish_eval`. ``source`` may depend on ``into``. Collective.
        """
        self._evaluate(source, self._stored(into, "eval_and_update"))

    def run_and_update(self, source: TSet[T], into: StoredSet[T]) -> None:
        """As :meth:`eval_and_update`, once: the plan is not kept."""
        with self.evaluating(source, self._stored(into, "run_and_update")) as step:
            step()

    def finish_eval(self, source: TSet[Any]) -> None:
        """Let go of the plans kept for ``source``. Idempotent."""
        for key in [key for key in self._evaluations if key[0] == id(source._node)]:
            self._evaluations.pop(key).close()

    def _evaluate(self, source: TSet[T], into: StoredSet[T]) -> None:
        key = (id(source._node), id(into.node))
        step = self._evaluations.get(key)
        if step is None:
            step = self._evaluations[key] = self.evaluating(source, into)
        step()

    @staticmethod
    def _stored(given: TSet[T], step: str) -> StoredSet[T]:
        if isinstance(given, StoredSet):
            return given
        ends = isinstance(given, LazyEnd)
        raise UsageError(
            f"{step}: {given!r} is not kept",
            why="an end makes no set" if ends else "its records would have nowhere to stay",
            remedy="call its run(), or run(...) of the context for several"
            if ends
            else "use cache(), lazy_cache(), persist() or lazy_persist() on it",
        )

    # -- what was read and done ----------------------------------------------------------------------------------------

    def read_report(self) -> ReadReport:
        """What all file sources of this context have read so far, on all workers. Collective."""
        parts = self.env.network.exchange_objects(attrs.astuple(self._read), what="read report")
        return sum((ReadReport(*part) for part in parts), ReadReport())

    def figures(self) -> dict[str, dict[str, float]]:
        """What the steps of this context have done so far, on all workers; what is printed at the end. Collective.

        :returns: by vertex of the plans (steps that were joined are one) in all runs of it: ``runs``; ``records`` and
            ``bytes`` that it handled; ``busy_s``, the seconds it worked, ``waiting_s``, those it had nothing to do, and
            ``blocked_s``, those it could not hand on, each summed over its tasks. Contexts of one name count together.
        """
        parts = self.env.network.exchange_objects(dict(self.env.figures()), what="figures")
        return over_workers(parts, self.name)

    # -- running -------------------------------------------------------------------------------------------------------

    def run(self, *ends: LazyEnd) -> list[list[Any]]:
        """Run lazy ends (``lazy_for_each``, ``sink``) in one graph: what they have in common is made once. Collective.

        :returns: for each end what its sinks on this worker kept.
        :raises UsageError: none was given, or something else.
        """
        for end in ends:
            if not isinstance(end, LazyEnd):
                raise UsageError(
                    f"run: {short(end)} is no end of a set",
                    why="it runs what lazy_for_each and sink gave",
                    remedy="an action (count, collect...) runs by itself; a set needs one",
                )
            if end.context.env is not self.env:
                raise UsageError(
                    f"run: {end!r} belongs to another environment",
                    why="sets of one environment lie on the workers of one attempt",
                    remedy="run it with its own context",
                )
        if not ends:
            raise UsageError(
                "run: there is nothing to run",
                why="no end was given",
                remedy="give what lazy_for_each or sink returned",
            )
        leaves = [end.leaf for end in ends]
        self._ready(leaves)
        form = tuple(end.token for end in ends)
        graph, sinks = self._memo.get(leaves[0].node, form, lambda: self._compile(leaves))
        outputs = self.env.run(graph)
        return [list(outputs[sink]) for sink in sinks]

    def run_once(self, leaf: Leaf) -> None:
        """Run an end whose graph is not wanted again."""
        self._ready([leaf])
        graph, _ = self._compile([leaf])
        self.env.run(graph)

    def run_leaf(self, node: Node, form: tuple[Any, ...], leaf: Callable[[], Leaf]) -> list[Any]:
        """Run an action on a node; ``form`` tells it from others, so that its graph is made once."""
        title = str(form[0])
        self.check_open(title)
        self.fill_all(node)
        graph, sinks = self._memo.get(node, form, lambda: self._compile([leaf()]))
        return list(self.env.run(graph)[sinks[0]])

    def explain(self, leaf: Leaf) -> str:
        """The plan of an end, with what fills the stored sets that are not filled yet."""
        check_all_kept(leaf.node)
        graph, _ = self._compile([leaf], through=True)
        return graph.explain(self.env)

    def unique(self, what: str) -> str:
        """A name that nothing else in this process has, and that is the same on all workers."""
        self._named += 1
        return f"{self.env.job_id} {self._number} {what} {self._named}"

    def _ready(self, leaves: Sequence[Leaf]) -> None:
        for leaf in leaves:
            self.check_open(leaf.title)
            self.fill_all(leaf.node)

    def _compile(self, leaves: Sequence[Leaf], *, through: bool = False) -> tuple[Graph, list[str]]:
        return compile_action(
            leaves, self.name, self.env.n_workers, self.without_rules, self.scheduler, through=through
        )

    def check_open(self, title: str) -> None:
        """:raises UsageError: the environment has ended."""
        if not self._open:
            raise UsageError(
                f"{title}: the environment of this set is closed",
                why="a set belongs to the worker program that made it, and that has ended",
                remedy="make the set again, with a TSetContext of the environment that is running",
            )

    def fill_all(self, node: Node) -> None:
        """Fill the stored sets that a node reads and that are not filled yet."""
        for step in in_order(node):
            for stored in (step, *step.given.values()):
                if isinstance(stored, StoredNode) and not stored.stored.filled:
                    check_kept(stored)
                    self.fill_all(stored.of)
                    self.fill(stored)

    def fill(self, node: StoredNode) -> None:
        """Run what fills a stored set."""
        check_kept(node)
        self.env.run(keeping(self, node.of, node.stored))

    def _close(self) -> None:
        self._open = False
        for evaluation in self._evaluations.values():
            evaluation.close()
        self._evaluations.clear()
        self._memo = Memo()

    def _note_read(self, report: ReadReport) -> None:
        self._read += report

    def _partitions(self, given: int | None, step: str) -> int:
        if given is None:
            return self.partitions
        check_count(given, step, "partitions")
        return given

    def _source(
        self,
        step: str,
        shows: str,
        make: Callable[..., Any],
        partitions: int,
        *,
        planner: Callable[[], Any] | None = None,
        options: Mapping[str, Any] | None = None,
        declares: Declarations | None = None,
        schema: Any = None,
    ) -> TSet[Any]:
        node = SourceNode(step, caller_line(), shows, make, partitions, planner, dict(options or {}), declares, schema)
        return TSet(self, node)
