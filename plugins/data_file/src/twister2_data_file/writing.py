"""Writing in two phases: parts in hidden temporary files, one idempotent commit that puts them in place."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from typing import IO, TYPE_CHECKING, Any

from twister2.spec.batch import Batch, n_records
from twister2.spec.data import Writer
from twister2.spec.errors import DataAccessError, DataFormatError
from twister2.spec.uris import without_secrets
from twister2_data_file.agreement import agreed_schema, is_rewritten, rewrite, throw_away
from twister2_data_file.problems import writing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twister2_data_file.layout import Layout


class Encoder(ABC):
    """Writes batches in one format into one open file."""

    @abstractmethod
    def write(self, batch: Batch) -> None:
        """Append a batch of at least one record."""

    @abstractmethod
    def finish(self) -> None:
        """Append what the format wants at its end; the file stays open."""

    def schema(self) -> str:
        """Columns and types of what was written as text (see :mod:`agreement`), empty for formats without."""
        return ""

    @abstractmethod
    def discard(self) -> None:
        """Let go of the file without caring for its content; must not raise."""


class PartWriter(Writer):
    """One task's part of an output.

    A task without records makes no part; a single file is made in any case.

    :param columns_known: the columns are known without a record: task 0 makes a part in any case, which has them.
    """

    def __init__(
        self, layout: Layout, make_encoder: Callable[[IO[bytes]], Encoder], *, columns_known: bool = False
    ) -> None:
        self._layout = layout
        self._make_encoder = make_encoder
        self._file: IO[bytes] | None = None
        self._encoder: Encoder | None = None
        self._path = ""
        self._records = 0
        self._in_any_case = layout.single_file or (columns_known and layout.request.task == 0)
        self._made_folder = False
        with writing(layout.target):
            for path in layout.leftovers(all_tasks=False):
                layout.store.remove(path)

    def write(self, batch: Batch) -> None:
        """Take a batch."""
        count = n_records(batch)
        if count:
            with self._guarded():
                self._encoder_now().write(batch)
            self._records += count

    def prepare(self, checkpoint: int) -> list[Any]:
        """Close the temporary file, durably."""
        layout = self._layout
        if self._encoder is None and not self._in_any_case:
            return []
        self._in_any_case = layout.single_file
        with self._guarded():
            self._encoder_now().finish()
            schema = self._encoder_now().schema()
            file, source = self._opened()
            layout.store.sync(file)
            file.close()
            target = layout.temporary(checkpoint)
            layout.store.replace(source, target)
            size = layout.store.size(target)
        committable = {
            "source": target,
            "target": layout.final(checkpoint),
            "bytes": size,
            "records": self._records,
            "checkpoint": checkpoint,
            "schema": schema,
            "task": layout.request.task,
        }
        self._file, self._encoder, self._records = None, None, 0
        return [committable]

    def abort(self) -> None:
        """Remove the temporary file, and folders that are empty then."""
        if self._encoder is not None:
            self._encoder.discard()
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
        store = self._layout.store
        if self._path:
            with contextlib.suppress(OSError):
                store.remove(self._path)
            with contextlib.suppress(OSError):
                self._layout.leave(made_folder=self._made_folder)
        self._file, self._encoder, self._path, self._records = None, None, "", 0

    def close(self) -> None:
        """What was not prepared is thrown away."""
        if self._file is not None:
            self.abort()

    def _encoder_now(self) -> Encoder:
        if self._encoder is None:
            layout = self._layout
            # The number of the checkpoint is not known yet: 0 is the part that is being written.
            self._path = layout.temporary(0)
            if not self._made_folder and not layout.store.has_folder(layout.folder):
                self._made_folder = True
                layout.store.create(layout.new_mark).close()
            self._file = layout.store.create(self._path)
            self._encoder = self._make_encoder(self._file)
        return self._encoder

    def _opened(self) -> tuple[IO[bytes], str]:
        if self._file is None:
            raise RuntimeError("nothing is open")
        return self._file, self._path

    @contextlib.contextmanager
    def _guarded(self) -> Any:
        """Throw the temporary file away when writing it fails."""
        try:
            with writing(self._layout.target):
                yield
        except Exception:
            self.abort()
            raise


def commit_parts(layout: Layout, committables: Sequence[Any], *, overwrite: bool) -> None:
    """Put prepared parts in place, remove what they replace, mark the output as complete.

    Every step may already have been done by an earlier call with the same arguments.

    :raises DataFormatError: the parts have columns that cannot be brought together; nothing of them is left.
    :raises DataAccessError: a prepared part is gone and its target is not it, or a rename fails.
    """
    store = layout.store
    with writing(layout.target):
        schema = agreed_schema(layout, committables)
        try:
            for part in committables:
                rewrite(layout, part, schema)
        except DataFormatError:
            throw_away(layout, committables)
            raise
        for part in committables:
            _put_in_place(layout, part, schema, overwrite=overwrite)
        if not layout.single_file:
            _complete_folder(layout, committables, overwrite=overwrite)
        if store.names(layout.folder):
            store.sync_folder(layout.folder)
        for path in layout.leftovers(all_tasks=True):
            store.remove(path)
        store.remove(layout.new_mark)
        store.remove_folder(layout.staging)


def _put_in_place(layout: Layout, part: Any, schema: Any, *, overwrite: bool) -> None:
    store, source, target = layout.store, part["source"], part["target"]
    if store.size(source) is None:
        if store.size(target) != part["bytes"] and not is_rewritten(layout, part, schema):
            raise DataAccessError(
                f"a prepared part of {layout.shown} is lost",
                why=without_secrets(
                    f"neither {source} nor {target} is the part of {part['bytes']} bytes that was prepared"
                ),
                remedy="see that nothing cleans the folder while the job runs, and run the job again",
                where=layout.shown,
            )
        return
    if layout.single_file and not overwrite and store.size(target) is not None and not _equal(layout, source, target):
        raise DataAccessError(
            f"cannot write {layout.shown}",
            why="the file exists, with other content",
            remedy="write elsewhere, remove it, or set the option overwrite",
            where=layout.shown,
        )
    store.replace(source, target)


def _equal(layout: Layout, one: str, other: str) -> bool:
    if layout.store.size(one) != layout.store.size(other):
        return False
    with layout.store.open(one) as first, layout.store.open(other) as second:
        while block := first.read(1 << 20):
            if block != second.read(len(block)):
                return False
    return True


def _complete_folder(layout: Layout, committables: Sequence[Any], *, overwrite: bool) -> None:
    files = {part["target"].rsplit("/", 1)[-1] for part in committables}
    marker = layout.read_marker()
    if marker.get("key") == layout.request.key:
        files |= {str(name) for name in marker.get("files", ())}
        if files == set(marker.get("files", ())):
            return
    if overwrite:
        for path in layout.old_parts(files):
            layout.store.remove(path)
    layout.write_marker(files)
