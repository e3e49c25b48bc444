"""Sets of files: the sources of a context that read through a data plugin."""

from __future__ import annotations

import datetime
import os
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from twister2.spec.data import ReadRequest, assign_splits
from twister2.spec.declarations import Declarations
from twister2.spec.errors import UsageError
from twister2.spec.relations import OF_MISSING
from twister2.spec.uris import without_secrets
from twister2_tset.formats import format_of
from twister2_tset.forms import ARRAY, RECORDS, TABLE
from twister2_tset.problems import short
from twister2_tset.report import ReadReport
from twister2_tset.sources import FileSource, PlannedRead

if TYPE_CHECKING:
    from twister2.spec.environment import WorkerEnvironment
    from twister2_tset.sets import TSet

Paths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
Predicate = Sequence[tuple[str, str, Any]]

COLUMN_FORMATS = ("csv", "json", "parquet", "arrow")
"""Formats of which single columns can be read."""

_EXACT = 1 << 53
"""Below it a float is as exact as a whole number."""


@attrs.frozen(repr=False)
class Reading:
    """What makes two readings the same. :ivar shows: without passwords. :ivar asked: all of it."""

    shows: str
    asked: str

    def __repr__(self) -> str:
        return self.shows


@attrs.frozen(eq=False)
class FileParts:
    """``make(index, planned)``: the splits of each task.

    :ivar note: is told what was read. :ivar wanted: the columns that the program asked for, None for all.
    :ivar shown: the files, for people.
    """

    plugin: str
    request: ReadRequest
    note: Callable[[ReadReport], None]
    wanted: tuple[str, ...] | None
    shown: str
    narrow: ClassVar[bool] = True

    def __call__(self, index: int, planned: PlannedRead) -> FileSource:
        skipped, note = planned.skipped if index == 0 else (), self.note
        return FileSource(
            self.plugin, self.request, planned.splits[index], lambda read: note(read + ReadReport(0, 0, skipped))
        )

    @property
    def gives(self) -> str:
        """The form of what the format's reader gives."""
        form = self.request.format
        if form in COLUMN_FORMATS and self.request.options.get("form") != "objects":
            return TABLE
        return ARRAY if form == "binary" else RECORDS

    @property
    def declares(self) -> Declarations:
        """What makes it the same as another, and how it reads less."""
        request = self.request
        columns = request.format in COLUMN_FORMATS and "form" not in request.options
        return Declarations(
            identity=Reading(f"{request.format} of {self.shown}", repr((self.plugin, request))),
            with_columns=self.with_columns if columns else None,
            with_predicate=self.with_predicate if columns else None,
        )

    def with_columns(self, names: tuple[str, ...]) -> FileParts | None:
        """The same with these columns only."""
        if not self._has(names):
            return None  # the step that names another one says so
        return attrs.evolve(self, request=attrs.evolve(self.request, columns=names))

    def with_predicate(self, predicate: tuple[tuple[str, str, Any], ...]) -> FileParts | None:
        """The same with the rows for which all comparisons hold, those that were asked for before included."""
        if not self._has([column for column, _, _ in predicate]) or not all(
            _is_plain(relation, value) for _, relation, value in predicate
        ):
            return None
        return attrs.evolve(self, request=attrs.evolve(self.request, predicate=(*self.request.predicate, *predicate)))

    def _has(self, names: Iterable[str]) -> bool:
        return self.wanted is None or set(names) <= set(self.wanted)


def _is_plain(relation: str, value: Any) -> bool:
    """Whether readers compare a value as the step behind them does: also with the bounds of values in pieces of files,
    where whole numbers and floats are compared exactly, while columns are brought to one type first.
    """
    if relation in OF_MISSING:
        return True
    if relation in ("in", "not in"):
        return isinstance(value, (list, tuple, set, frozenset)) and all(
            one is None or _is_plain("==", one) for one in value
        )
    if isinstance(value, (int, float)):
        return abs(value) < _EXACT
    return isinstance(value, (str, bytes, datetime.date))


class Readers:
    """See :class:`~twister2_tset.TSetContext`."""

    env: WorkerEnvironment

    @abstractmethod
    def _note_read(self, report: ReadReport) -> None:
        """Add to what was read."""

    @abstractmethod
    def _partitions(self, given: int | None, step: str) -> int:
        """The number of partitions of a source."""

    @abstractmethod
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
    ) -> TSet[Any]:
        """A set that begins with a source."""

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
        predicate: Predicate = (),
        partitions: int | None = None,
        plugin: str = "file",
        **options: Any,
    ) -> TSet[dict[str, Any]]:
        """The rows of CSV files: dicts to functions of records, Arrow record batches to ``map_batches``.

        :param predicate: ``[(column, "==", value), ...]``: only rows for which all hold.
        """
        return self._read_files("read_csv", "csv", paths, columns, predicate, partitions, plugin, options)

    def read_parquet(
        self,
        paths: Paths,
        *,
        columns: Sequence[str] | None = None,
        predicate: Predicate = (),
        partitions: int | None = None,
        plugin: str = "file",
        **options: Any,
    ) -> TSet[dict[str, Any]]:
        """The rows of Parquet files, as :meth:`read_csv`; ``predicate`` also skips whole pieces of them."""
        return self._read_files("read_parquet", "parquet", paths, columns, predicate, partitions, plugin, options)

    def read_json(
        self,
        paths: Paths,
        *,
        columns: Sequence[str] | None = None,
        predicate: Predicate = (),
        partitions: int | None = None,
        plugin: str = "file",
        **options: Any,
    ) -> TSet[Any]:
        """The rows of files with a JSON object in each line, as :meth:`read_csv`.

        ``form="objects"``: whatever the lines hold, as Python objects.
        """
        return self._read_files("read_json", "json", paths, columns, predicate, partitions, plugin, options)

    def read_arrow(
        self,
        paths: Paths,
        *,
        columns: Sequence[str] | None = None,
        predicate: Predicate = (),
        partitions: int | None = None,
        plugin: str = "file",
        **options: Any,
    ) -> TSet[dict[str, Any]]:
        """The rows of Arrow (Feather) files and streams, as :meth:`read_csv`."""
        return self._read_files("read_arrow", "arrow", paths, columns, predicate, partitions, plugin, options)

    def read_binary(
        self,
        paths: Paths,
        *,
        record_bytes: int | None = None,
        dtype: Any = None,
        partitions: int | None = None,
        plugin: str = "file",
        **options: Any,
    ) -> TSet[Any]:
        """Records of a fixed size, as numpy arrays to ``map_batches``.

        :param record_bytes: the size of a record; :param dtype: or its numpy type.
        """
        given = {"record_bytes": record_bytes, "dtype": dtype}
        options.update({name: value for name, value in given.items() if value is not None})
        return self._read_files("read_binary", "binary", paths, None, (), partitions, plugin, options)

    def load(self, paths: Paths, *, partitions: int | None = None, plugin: str = "file", **options: Any) -> TSet[Any]:
        """What the paths' suffix says: lines of ``.txt``, rows of ``.csv`` and ``.parquet``..., as ``set.save`` writes.

        ``options`` are those of the format, and ``columns`` and ``predicate`` of formats that have columns.

        :raises UsageError: the suffixes say nothing, or different things.
        """
        names = path_names(paths, "load")
        formats = {format_of(name, "load") for name in names}
        if len(formats) > 1:
            raise UsageError(
                f"load: the paths are of different formats: {', '.join(sorted(formats))}",
                why="a set is read from files of one format",
                remedy="load them one by one, and make a union of the sets",
            )
        columns, predicate = options.pop("columns", None), options.pop("predicate", ())
        return self._read_files("load", formats.pop(), names, columns, predicate, partitions, plugin, options)

    def _read_files(
        self,
        step: str,
        form: str,
        paths: Paths,
        columns: Sequence[str] | None,
        predicate: Predicate,
        partitions: int | None,
        plugin: str,
        options: Mapping[str, Any],
    ) -> TSet[Any]:
        uris = path_names(paths, step)
        wanted = None if columns is None else tuple(columns)
        env = self.env
        request = ReadRequest(uris, form, wanted, tuple(predicate), dict(options), env.attempt)
        number = self._partitions(partitions, step)

        def plan_read() -> PlannedRead:
            plan = env.backend("data", plugin).plan(request, number)
            splits = assign_splits(plan.splits, number)
            hosts = {index: _hosts(part) for index, part in enumerate(splits) if _hosts(part)}
            return PlannedRead(splits, tuple(plan.skipped), hosts, plan.schema)

        first = without_secrets(uris[0])
        shown = first if len(uris) == 1 else f"{first} and {len(uris) - 1} more"
        make = FileParts(plugin, request, self._note_read, wanted, shown)
        return self._source(step, f"{form} of {shown}", make, number, planner=plan_read)


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
