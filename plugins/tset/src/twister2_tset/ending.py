"""Ends of sets: keeping, writing, functions for every record, sinks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from twister2.graph import Stored
from twister2.spec.declarations import Declarations
from twister2.spec.uris import without_secrets
from twister2_tset.base import BaseSet
from twister2_tset.ends import LazyEnd
from twister2_tset.formats import format_of
from twister2_tset.functions import wants_context
from twister2_tset.keys import shown
from twister2_tset.nodes import End, Leaf, StoredNode
from twister2_tset.problems import check_function
from twister2_tset.sinks import ForEach, WriteFiles
from twister2_tset.where import caller_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from twister2.spec.tasks import Sink
    from twister2_tset.functions import WithContext
    from twister2_tset.stored_sets import StoredSet

    Level = Literal["memory", "disk"]

T = TypeVar("T")


class Endings(BaseSet[T]):
    """See :class:`~twister2_tset.TSet`."""

    # -- functions and sinks -------------------------------------------------------------------------------------------

    def for_each(self, function: Callable[[T], object] | WithContext[T, object]) -> None:
        """Call ``function(record)`` for every record, on the worker that has it; returns when all workers are done."""
        leaf = self._for_each("for_each", function)
        self.context.run_once(leaf)
        # A worker without a partition has nothing to wait for in the graph.
        self.context.env.network.exchange_objects(None, what=leaf.title)

    def lazy_for_each(self, function: Callable[[T], object] | WithContext[T, object]) -> LazyEnd:
        """As :meth:`for_each`, when the result is run: ``end.run()``, or ``context.run(end, another)`` in one graph."""
        return LazyEnd(self.context, self._for_each("lazy_for_each", function))

    def sink(self, make: Callable[[int], Sink], *, two_phase: bool | None = None) -> LazyEnd:
        """A sink of one's own: ``make(partition)`` gives a :class:`~twister2.spec.tasks.Sink` for each partition.

        Lazy: it runs by ``end.run()``, which returns what the sinks here kept, or ``context.run(end, another)``.

        :param two_phase: whether the run ends with prepare and commit; None: when the class has them.
        """
        check_function(make, "sink", "make", ("partition",))
        end = End(make, f"sink {shown(make)}", two_phase=two_phase, indexed=True)
        return LazyEnd(self.context, self._end("sink", end))

    # -- files ---------------------------------------------------------------------------------------------------------

    def save(self, uri: str | os.PathLike[str], *, plugin: str = "file", **options: Any) -> None:
        """Write in the format that the name's suffix says, as ``context.load`` reads it: ``.txt``, ``.csv``,
        ``.parquet``..., as :meth:`write_text`.

        :raises UsageError: the suffix says nothing.
        """
        self._write("save", format_of(uri, "save"), uri, plugin, options)

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

    def write_json(self, uri: str | os.PathLike[str], *, plugin: str = "file", **options: Any) -> None:
        """Write one JSON object per line, as :meth:`write_text`; records are dicts, tuples with ``column_names``..."""
        self._write("write_json", "json", uri, plugin, options)

    def write_arrow(self, uri: str | os.PathLike[str], *, plugin: str = "file", **options: Any) -> None:
        """Write Arrow files, as :meth:`write_csv`."""
        self._write("write_arrow", "arrow", uri, plugin, options)

    def write_binary(self, uri: str | os.PathLike[str], *, plugin: str = "file", **options: Any) -> None:
        """Write records of a fixed size, as :meth:`write_text`: arrays, or ``bytes`` of one length."""
        self._write("write_binary", "binary", uri, plugin, options)

    # -- keeping -------------------------------------------------------------------------------------------------------

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

    # -- inside --------------------------------------------------------------------------------------------------------

    def _end(self, step: str, end: End) -> Leaf:
        return Leaf(self._node, self._title(step), end)

    def _for_each(self, step: str, function: Callable[..., object]) -> Leaf:
        check_function(function, step, context=True)
        declares = Declarations(indifferent=not wants_context(function))
        return self._end(step, End(lambda: ForEach(function), f"calls {shown(function)}", declares=declares))

    def _write(self, step: str, form: str, uri: str | os.PathLike[str], plugin: str, options: dict[str, Any]) -> None:
        self._check_once(step)
        target = os.fspath(uri)
        shows = f"{form} to {without_secrets(target)}"
        end = End(lambda: WriteFiles(plugin, target, form, options), shows, two_phase=True, narrow=True)
        self.context.run_once(self._end(step, end))

    def _kept(self, step: str, level: Level, *, lazy: bool) -> StoredSet[T]:
        from twister2_tset.stored_sets import StoredSet

        context, title = self.context, self._title(step)
        node = StoredNode("cached", caller_line(), self._node.title, Stored(title, level), self._node)
        if not lazy:
            context.check_open(title)
            context.fill_all(self._node)
            context.fill(node)
        return StoredSet(context, node)
