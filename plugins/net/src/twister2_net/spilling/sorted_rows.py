"""Batches sorted by a :class:`~twister2_net.spilling.record_order.RecordOrder`, in memory or in runs on disk.

Equal keys stay in order of their source, and within a source in that of arrival. So that runs can be merged, each
record of a run has its source beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.spec.batch import Batch, is_array, is_arrow, n_bytes, n_records
from twister2_net.problems import different_columns
from twister2_net.spilling.sorted_columns import ColumnForm, fit, in_one_piece, shown_columns, spans

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from twister2_net.spilling.record_order import RecordOrder
    from twister2_net.spilling.row_columns import RowColumns

_BLOCK_BYTES = 1 << 22


class Tagged:
    """A batch and where its records come from. :ivar sources: one for all, or an array of one each."""

    __slots__ = ("nbytes", "rows", "sources")

    def __init__(self, rows: Batch, sources: Any) -> None:
        self.rows = rows
        self.sources = sources
        self.nbytes = n_bytes(rows) + (0 if isinstance(sources, int) else int(sources.nbytes))

    def __len__(self) -> int:
        return n_records(self.rows)

    def __reduce__(self) -> tuple[Any, ...]:
        if not is_arrow(self.rows):
            return Tagged, (self.rows, self.sources)
        import pyarrow

        sink = pyarrow.BufferOutputStream()  # a slice as what it has: pickled, it would be all it is cut from
        with pyarrow.ipc.new_stream(sink, self.rows.schema) as writer:
            writer.write(self.rows)
        return _opened, (sink.getvalue(), self.sources)


def _opened(stream: Any, sources: Any) -> Tagged:
    """A tagged table that was pickled."""
    import pyarrow

    with pyarrow.ipc.open_stream(stream) as reader:
        return Tagged(reader.read_all(), sources)


class RowForm(ColumnForm):
    """Sorted :class:`Tagged` batches of one form. :param columns: of Arrow batches and arrays; None for lists."""

    def __init__(self, order: RecordOrder, columns: RowColumns | None) -> None:
        self._order = order
        self._columns = columns

    # -- of runs ---------------------------------------------------------------------------------------------------

    def rank(self, block: Any, index: int) -> Any:
        rows = block.rows
        one = rows.slice(index, 1) if is_arrow(rows) else rows[index : index + 1]
        raw = self._order.raw(one) if self._columns is None else self._columns.raw(one, [0])
        return self._order.rank(raw[0]), int(block.sources[index])

    def cut(self, block: Any, start: int, stop: int) -> Any:
        rows = block.rows.slice(start, stop - start) if is_arrow(block.rows) else block.rows[start:stop]
        return Tagged(rows, block.sources[start:stop])

    def sorted(self, parts: Sequence[Any]) -> Any:
        """Batches as one sorted block."""
        tag, rows = self._tagged(parts)
        if self._columns is None:
            positions = self._order.positions(rows, tag.tolist())
            return Tagged(list(map(rows.__getitem__, positions)), tag[positions])
        found = self._columns.positions(rows, tag)
        return Tagged(rows_at(rows, found), tag[found])

    def blocks(self, parts: list[Any], block_bytes: int) -> Iterator[Any]:
        if self._columns is None:
            yield from super().blocks(parts, block_bytes)
            return
        tag, rows = self._tagged(parts)
        parts.clear()
        if is_arrow(rows):
            held = [rows]
            del rows
            rows = in_one_piece(held)
        found = self._columns.positions(rows, tag)
        for start, stop in spans(len(tag), n_bytes(rows), block_bytes):
            some = found[start:stop]
            yield Tagged(rows_at(rows, some), tag[some])

    def _tagged(self, parts: Sequence[Any]) -> tuple[Any, Any]:
        """The sources of all records, and the records."""
        import numpy

        tags = [
            numpy.full(len(part), part.sources, numpy.int32) if isinstance(part.sources, int) else part.sources
            for part in parts
        ]
        tag = tags[0] if len(tags) == 1 else numpy.concatenate(tags)
        return tag, joined([part.rows for part in parts], self._order.label)

    # -- in memory -------------------------------------------------------------------------------------------------

    def in_order(self, parts: list[Any]) -> Iterator[Any]:
        """Batches of one source each as sorted blocks. ``parts`` is emptied."""
        parts.sort(key=_source_of)
        rows = joined([part.rows for part in parts], self._order.label)
        parts.clear()
        if self._columns is None:
            yield self._order.in_order(rows)
            return
        found = self._columns.positions(rows, None)
        if is_arrow(rows):
            yield rows_at(rows, found)
            return
        # Not all at once: memory that was just given back is faster than memory that is new.
        step = max(1, _BLOCK_BYTES * len(rows) // max(1, n_bytes(rows)))
        for start in range(0, len(rows), step):
            yield rows_at(rows, found[start : start + step])


def _source_of(part: Tagged) -> int:
    return int(part.sources)


def rows_at(rows: Any, positions: Any) -> Any:
    """Some rows of an Arrow table or an array."""
    return rows.take(positions) if is_arrow(rows) else rows.take(positions, axis=0)


def joined(parts: Sequence[Batch], label: str) -> Any:
    """Batches of one form as one.

    :raises OperatorError: their columns differ.
    """
    first = parts[0]
    if is_arrow(first):
        import pyarrow

        tables = [part if isinstance(part, pyarrow.Table) else pyarrow.Table.from_batches([part]) for part in parts]
        fits = all(fit(table.schema, tables[0].schema) for table in tables)
        try:
            return pyarrow.concat_tables(tables, promote_options="permissive" if fits else "none")
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as error:
            raise different_columns(label, map(shown_columns, tables)) from error
    if is_array(first):
        import numpy

        forms = {(part.dtype, part.shape[1:]) for part in parts}
        if len(forms) > 1:
            raise different_columns(label, {f"{dtype} {shape}" for dtype, shape in forms})
        if len(parts) == 1:
            return first
        if first.dtype.names and not first.dtype.hasobject:  # at once, not field by field
            return numpy.concatenate([part.view(f"V{first.dtype.itemsize}") for part in parts]).view(first.dtype)
        return numpy.concatenate(parts, dtype=first.dtype)
    whole: list[Any] = []
    for part in parts:
        whole += part
    return whole
