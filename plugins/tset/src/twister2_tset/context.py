"""The context: where sets begin, and what runs their actions."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from twister2.spec.data import ReadRequest, assign_splits
from twister2.spec.errors import UsageError
from twister2_tset.evaluation import Evaluation
from twister2_tset.nodes import End, Node, SourceNode, StoredNode, compile_action, in_order
from twister2_tset.problems import check_count, check_function, kind_of, short
from twister2_tset.report import ReadReport
from twister2_tset.sets import TSet
from twister2_tset.sources import FileSource, FunctionSource, ListParts, PlannedRead
from twister2_tset.stored_sets import StoredSet, fill
from twister2_tset.where import user_line

if TYPE_CHECKING:
    from twister2.graph import Outputs
    from twister2.spec.environment import WorkerEnvironment

T = TypeVar("T")
Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


class TSetContext:
    """Makes sets on the workers of one environment. Every worker makes the same sets and calls the same actions.

    :param partitions: of sources that do not say; None: one per worker.
    :param name: of the graphs, for progress displays.
    :param without_rules: names of rewriting rules that must not be applied (``"fuse"``).
    """

    def __init__(
        self,
        env: WorkerEnvironment,
        *,
        partitions: int | None = None,
        name: str = "tset",
        without_rules: Iterable[str] = (),
    ) -> None:
        if partitions is not None:
            check_count(partitions, "TSetContext", "partitions")
        self.env = env
        self.name = name
        self.partitions = partitions if partitions is not None else env.n_workers
        self.without_rules = tuple(without_rules)
        self._evaluations: dict[tuple[int, int], Evaluation] = {}
        self._read = ReadReport()
        self._open = True
        env.on_close(self._close)

    # -- sources -------------------------------------------------------------------------------------------------------

    def parallelize(self, data: Iterable[T], partitions: int | None = None) -> TSet[T]:
        """The records of a list (or of anything that can be walked over once), in equal contiguous parts.

        Every worker gives the same data; each takes its parts of its own copy.
        """
        if isinstance(data, (str, bytes)) or not isinstance(data, Iterable):
            raise UsageError(
                f"parallelize: the data is {short(data)}, {kind_of(data)}",
                why="it takes a list, a range or another collection of records",
                remedy="give a list; for the lines of a text: parallelize(text.splitlines())",
            )
        # Tuples, strings and arrays are cut as they are; what can be changed is copied, because the set is lazy.
        records: Sequence[T] = data if isinstance(data, (tuple, range)) else list(data)
        number = self._partitions(partitions, "parallelize")
        # The number of records is part of the step's fingerprint: workers that give other lists are told so.
        options = {"records": str(len(records))}
        shows = f"{len(records):,} records of a list"
        return self._source("parallelize", shows, ListParts(records, number), number, options=options)

    def source(self, function: Callable[[int], Iterable[T]], partitions: int | None = None) -> TSet[T]:
        """The records that ``function(partition)`` gives: a generator, or anything else to walk over.

        It is called once per partition and action, on the worker that has the partition.
        """
        check_function(function, "source")
        number = self._partitions(partitions, "source")
        shows = f"records of {getattr(function, '__qualname__', 'a function')}()"
        return self._source("source", shows, lambda index: FunctionSource(function, index), number)

    def read_text(
        self, paths: Paths, *, partitions: int | None = None, plugin: str = "file", **options: Any
    ) -> TSet[str]:
        """The lines of text files: paths, globs or URIs. ``options`` are the format's (``on_decode_error``...)."""
        return self._read_files("read_text", "text", paths, None, (), partitions, plugin, options)

    def read_csv(
        self,
        paths: Paths,
        *,
        columns: Sequence[str] | None = None,
        partitions: int | None = None,
        plugin: str = "file",
        **options: Any,
    ) -> TSet[dict[str, Any]]:
        """The rows of CSV files: dicts to functions of records, Arrow record batches to ``map_batches``."""
        return self._read_files("read_csv", "csv", paths, columns, (), partitions, plugin, options)

    def read_parquet(
        self,
        paths: Paths,
        *,
        columns: Sequence[str] | None = None,
        predicate: Sequence[tuple[str, str, Any]] = (),
        partitions: int | None = None,
        plugin: str = "file",
        **options: Any,
    ) -> TSet[dict[str, Any]]:
        """The rows of Parquet files, as :meth:`read_csv`.

        :param predicate: ``[(column, "==", value), ...]``: only rows for which all hold; it also skips whole pieces.
        """
        return self._read_files("read_parquet", "parquet", paths, columns, predicate, partitions, plugin, options)

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
        raise UsageError(
            f"{step}: {given!r} is not kept",
            why="its records would have nowhere to stay",
            remedy="use cache(), lazy_cache(), persist() or lazy_persist() on it",
        )

    # -- what was read -------------------------------------------------------------------------------------------------

    def read_report(self) -> ReadReport:
        """What all file sources of this context have read so far, on all workers. Collective."""
        parts = self.env.network.exchange_objects(attrs.astuple(self._read), what="read report")
        return sum((ReadReport(*part) for part in parts), ReadReport())

    # -- for sets ------------------------------------------------------------------------------------------------------

    def run(self, node: Node, title: str, end: End) -> list[Any]:
        """Run one action; what its sink kept on this worker."""
        self.check_open(title)
        self.fill_all(node)
        graph, sink = compile_action(node, title, end, self.env.n_workers, self.without_rules)
        graph.name = self.name
        outputs: Outputs = self.env.run(graph)
        return list(outputs[sink])

    def explain(self, node: Node, end: End) -> str:
        """The plan of a set."""
        self.fill_all(node)
        graph, _ = compile_action(node, "result", end, self.env.n_workers, self.without_rules)
        graph.name = self.name
        return graph.explain(self.env)

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
                    self.fill_all(stored.of)
                    fill(self, stored)

    def _close(self) -> None:
        self._open = False
        for evaluation in self._evaluations.values():
            evaluation.close()
        self._evaluations.clear()

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
    ) -> TSet[Any]:
        return TSet(self, SourceNode(step, user_line(), shows, make, partitions, planner, dict(options or {})))

    def _read_files(
        self,
        step: str,
        form: str,
        paths: Paths,
        columns: Sequence[str] | None,
        predicate: Sequence[tuple[str, str, Any]],
        partitions: int | None,
        plugin: str,
        options: Mapping[str, Any],
    ) -> TSet[Any]:
        uris = path_names(paths, step)
        wanted = None if columns is None else tuple(columns)
        request = ReadRequest(uris, form, wanted, tuple(predicate), dict(options))
        number = self._partitions(partitions, step)
        env, note = self.env, self._note_read

        def plan_read() -> PlannedRead:
            plan = env.backend("data", plugin).plan(request, number)
            splits = assign_splits(plan.splits, number)
            hosts = {index: _hosts(part) for index, part in enumerate(splits) if _hosts(part)}
            return PlannedRead(splits, tuple(plan.skipped), hosts)

        def make_source(index: int, planned: PlannedRead) -> FileSource:
            skipped = planned.skipped if index == 0 else ()
            return FileSource(
                plugin, request, planned.splits[index], lambda read: note(read + ReadReport(0, 0, skipped))
            )

        shown = uris[0] if len(uris) == 1 else f"{uris[0]} and {len(uris) - 1} more"
        return self._source(step, f"{form} of {shown}", make_source, number, planner=plan_read)


def path_names(paths: Paths, step: str) -> tuple[str, ...]:
    """The paths as text.

    :raises UsageError: none was given, or something else than paths.
    """
    given: list[Any] = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    names = [os.fspath(path) if isinstance(path, (str, os.PathLike)) else path for path in given]
    wrong = next((name for name in names if not isinstance(name, str) or not name), None)
    if not names or wrong is not None:
        raise UsageError(
            f"{step}: no input" if not names else f"{step}: {short(wrong)} is no path",
            why="it reads one or more paths, globs or URIs",
            remedy=f'name what to read: {step}("folder/*.txt")',
        )
    return tuple(names)


def _hosts(splits: Sequence[Any]) -> tuple[str, ...]:
    return tuple(sorted({host for split in splits for host in split.hosts}))
