"""Sorting of columns that may be larger than memory: numpy arrays by their first column, Arrow batches by key columns.

Null is the last key in order, NaN the last but one; both are keys like any other, and 0.0 and -0.0 are one.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Final

from twister2.spec.batch import n_bytes, n_records
from twister2.spec.errors import MemoryBudgetError, OperatorError
from twister2_net.problems import different_columns, no_column
from twister2_net.spilling.runs import Form, Runs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from twister2.spec.batch import Batch
    from twister2.spec.memory import MemoryService, Scratch
    from twister2_net.spilling.runs import Window


_NAT: Final = -(1 << 63)
TICKS: Final = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
"""Nanoseconds of a tick of times."""
_DATES: Final = {"date32[day]": 86_400 * 10**9, "date64[ms]": 10**6}


class ColumnForm(Form):
    """Blocks that are made of several ones by sorting."""

    @abstractmethod
    def sorted(self, parts: Sequence[Any]) -> Any:
        """Batches as one sorted block."""

    def whole(self, parts: Sequence[Any]) -> Any:
        return parts[0] if len(parts) == 1 else self.sorted(parts)

    def blocks(self, parts: list[Any], block_bytes: int) -> Iterator[Any]:
        """Batches as sorted blocks of about so many bytes. ``parts`` is emptied, so that they are not there twice."""
        whole = self.sorted(parts)
        parts.clear()
        for start, stop in spans(n_records(whole), n_bytes(whole), block_bytes):
            yield self.cut(whole, start, stop)


class ArrayForm(ColumnForm):
    """Numpy arrays: structured ones by their first field, others by their first column."""

    def __init__(self, label: str) -> None:
        self._label = label

    def keys(self, block: Any) -> Any:
        """The key of each record."""
        names = block.dtype.names
        return block[names[0]] if names else block[:, 0]

    def rank(self, block: Any, index: int) -> Any:
        keys = self.keys(block[index : index + 1])
        kind = keys.dtype.kind
        if kind in "mM":  # as numpy sorts them: NaT, the smallest number, last
            number = int(keys.view("i8")[0])
            return (0, number) if number != _NAT else (1, 0)
        key = keys[0]
        key = key.item() if hasattr(key, "item") else key
        if kind == "c":
            real, imag = (0.0 if part != part else part for part in (key.real, key.imag))
            return 2 * (key.real != key.real) + (key.imag != key.imag), (real, imag)
        return (0, key) if key == key else (1, 0)

    def cut(self, block: Any, start: int, stop: int) -> Any:
        return block[start:stop]

    def sorted(self, parts: Sequence[Any]) -> Any:
        import numpy

        if len({(part.dtype, part.shape[1:]) for part in parts}) > 1:
            raise different_columns(self._label, [f"{part.dtype} {part.shape[1:]}" for part in parts])
        whole = parts[0] if len(parts) == 1 else numpy.concatenate(parts)
        return whole[numpy.argsort(self.keys(whole), kind="stable")]


class ArrowForm(ColumnForm):
    """Arrow tables by some of their columns, the first one when none are named.

    :ivar named: those columns, where they are named.
    """

    def __init__(self, columns: Sequence[str], label: str) -> None:
        self.named = tuple(columns)
        self._label = label

    def columns(self, block: Any) -> tuple[str, ...]:
        """Names of the key columns.

        :raises OperatorError: the batch has no such column.
        """
        names = self.named or (block.schema.names[0],)
        unknown = [name for name in names if name not in block.schema.names]
        if unknown:
            raise no_column(self._label, unknown, block.schema.names)
        return names

    def rank(self, block: Any, index: int) -> Any:
        return tuple(_ranked(block.column(name)[index]) for name in self.columns(block))

    def cut(self, block: Any, start: int, stop: int) -> Any:
        return block.slice(start, stop - start)

    def joined(self, parts: Sequence[Any]) -> Any:
        """Batches as one table.

        :raises OperatorError: their columns differ.
        """
        import pyarrow

        tables = [part if isinstance(part, pyarrow.Table) else pyarrow.Table.from_batches([part]) for part in parts]
        fits = all(fit(table.schema, tables[0].schema) for table in tables)
        try:
            return pyarrow.concat_tables(tables, promote_options="permissive" if fits else "none")
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as error:
            raise different_columns(self._label, map(shown_columns, tables)) from error

    def sorted(self, parts: Sequence[Any]) -> Any:
        whole = self.joined(parts)
        return whole.take(self._positions(whole)).combine_chunks()

    def blocks(self, parts: list[Any], block_bytes: int) -> Iterator[Any]:
        tables = [self.joined(parts)]
        parts.clear()
        whole = in_one_piece(tables)
        positions = self._positions(whole)
        for start, stop in spans(n_records(whole), n_bytes(whole), block_bytes):
            yield whole.take(positions[start:stop]).combine_chunks()

    def _positions(self, whole: Any) -> Any:
        """The rows of a table in the order of their keys."""
        import pyarrow

        try:
            keys = pyarrow.table({name: flat(whole.column(name)) for name in self.columns(whole)})
            return pyarrow.compute.sort_indices(keys, sort_keys=[(name, "ascending") for name in keys.schema.names])
        except (pyarrow.ArrowNotImplementedError, pyarrow.ArrowTypeError, pyarrow.ArrowInvalid) as error:
            raise unusable_keys(self._label, "sort", described(whole, self.columns(whole)), error) from error


def spans(count: int, n_bytes: int, block_bytes: int) -> Iterator[tuple[int, int]]:
    """First row and end of each block of about ``block_bytes``."""
    rows = max(1, count * block_bytes // max(1, n_bytes))
    for start in range(0, count, rows):
        yield start, min(count, start + rows)


def fit(schema: Any, other: Any) -> bool:
    """Whether batches of two schemas can become one: numbers of other types, text and bytes of short and of large
    columns, only nulls on one side, lists of such.
    """
    if schema.equals(other):
        return True
    return bool(schema.names == other.names) and all(map(_fit, schema.types, other.types))


def _fit(one: Any, other: Any) -> bool:
    from pyarrow import types

    kinds = (one, other)
    if one == other or any(map(types.is_null, kinds)) or all(map(types.is_decimal, kinds)):
        return True
    for is_short, is_large in ((types.is_string, types.is_large_string), (types.is_binary, types.is_large_binary)):
        if all(is_short(kind) or is_large(kind) for kind in kinds):
            return True
    if all(map(types.is_list, kinds)):
        return _fit(one.value_type, other.value_type)
    return all(types.is_integer(kind) or types.is_floating(kind) for kind in kinds)


def in_one_piece(tables: list[Any]) -> Any:
    """A table whose columns are whole, made column by column: taking rows of columns in pieces copies all of them each
    time. ``tables``, a list of one, is emptied, so that no column is there twice when the next one is made whole.
    """
    import pyarrow

    table = tables.pop()
    if all(column.num_chunks <= 1 for column in table.columns):
        return table
    schema, columns = table.schema, table.columns[::-1]
    del table
    whole = []
    while columns:
        # as a table: text of more bytes than one array holds stays in several
        whole.append(pyarrow.table({"column": columns.pop()}).combine_chunks().column(0))
    return pyarrow.Table.from_arrays(whole, schema=schema)


def shown_columns(table: Any) -> str:
    """All columns with their types, for messages."""
    return ", ".join(f"{field.name}: {field.type}" for field in table.schema)


def described(table: Any, names: Sequence[str]) -> str:
    """Columns with their types, for messages."""
    return ", ".join(f"{name!r} of type {table.schema.field(name).type}" for name in names)


def unusable_keys(label: str, verb: str, columns: str, error: Exception) -> OperatorError:
    """Key columns of types that pyarrow does not sort by, or compare. :param columns: with their types."""
    return OperatorError(
        f"{label} cannot {verb} by the column{'s' if ', ' in columns else ''} {columns}",
        why=str(error),
        remedy="use key columns of numbers, text, bytes or times: cast them, or make such a column of them first",
        where=label,
    )


def flat(column: Any) -> Any:
    """A column whose values can be compared: dictionaries decoded, views as what they show, floats of 16 bits as such
    of 32, -0.0 as 0.0.
    """
    import pyarrow
    import pyarrow.compute

    kind = column.type
    if pyarrow.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    wider = (
        pyarrow.float32() if pyarrow.types.is_float16(kind)
        else pyarrow.large_string() if pyarrow.types.is_string_view(kind)
        else pyarrow.large_binary() if pyarrow.types.is_binary_view(kind)
        else None
    )  # fmt: skip
    if wider is not None:
        column = column.cast(wider)
    if pyarrow.types.is_floating(column.type):
        column = pyarrow.compute.add(column, pyarrow.scalar(0, column.type))
    return column


def _ranked(scalar: Any) -> tuple[int, Any]:
    if not scalar.is_valid:
        return 2, 0
    per_tick = TICKS.get(getattr(scalar.type, "unit", ""), _DATES.get(str(scalar.type)))
    if per_tick is not None:  # Python's times have no nanoseconds, nor all years
        return 0, scalar.value * per_tick
    key = scalar.as_py()
    return (0, key) if key == key else (1, 0)


def codes(columns: Sequence[Any]) -> Any:
    """One integer per row of some columns of equal length; equal rows, and no others, have equal integers."""
    import numpy
    import pyarrow
    import pyarrow.compute

    found: Any = None
    for column in columns:
        plain = _one_chunk(flat(column))
        encoded = _one_chunk(pyarrow.compute.dictionary_encode(plain, null_encoding="encode"))
        indices = encoded.indices.to_numpy(zero_copy_only=False).astype(numpy.int64)
        if found is None:
            found = indices
        else:
            # numbers stay small: each pair of codes becomes one of at most as many codes as there are rows
            found = numpy.unique(found * (len(encoded.dictionary) + 1) + indices, return_inverse=True)[1]
    return found


def _one_chunk(column: Any) -> Any:
    """A column as one array."""
    import pyarrow

    if not isinstance(column, pyarrow.ChunkedArray):
        return column
    whole = column.combine_chunks()
    return pyarrow.concat_arrays(whole.chunks) if isinstance(whole, pyarrow.ChunkedArray) else whole


def grouped_rows(form: ArrowForm, table: Any) -> Any:
    """A sorted table with one row per key: key columns as they are, the others as lists."""
    import numpy
    import pyarrow

    keys = form.columns(table)
    rows = codes([table.column(name) for name in keys])
    starts = numpy.flatnonzero(numpy.concatenate(([True], rows[1:] != rows[:-1])))
    offsets = pyarrow.array(numpy.append(starts, len(rows)).astype("i4"))
    columns = {}
    for name in table.schema.names:
        column = table.column(name)
        if name in keys:
            columns[name] = column.take(pyarrow.array(starts))
        else:
            columns[name] = pyarrow.ListArray.from_arrays(offsets, _one_chunk(column))
    return pyarrow.table(columns)


class SortedColumns:
    """Batches of columns, sorted by key in the end; they become sorted runs when memory gets short.

    :param form: of the batches of each side.
    """

    def __init__(self, memory: MemoryService, name: str, forms: Sequence[ColumnForm]) -> None:
        self._memory = memory
        self._name = name
        self.forms = forms
        self._here: list[list[Batch]] = [[] for _ in forms]
        self._runs: Runs | None = None
        self._room = memory.reserve(name, revoke=self._revoke)

    def add(self, side: int, batch: Batch) -> None:
        """Hold a batch."""
        self._room.grow(n_bytes(batch))
        self._here[side].append(batch)

    def _revoke(self, wanted: int) -> int:
        if not any(self._here):
            return 0
        if self._runs is None:
            self._runs = Runs(self._memory, self._name, self.forms)
        # Sorting takes a copy: runs are short, so that it is a small one.
        most = max(16 * self._runs.scratch.block_bytes, self._memory.use().budget // 6)
        here, self._here = self._here, [[] for _ in self.forms]
        for side, parts in enumerate(here):
            parts.reverse()
            while parts:
                some = [parts.pop()]
                size = n_bytes(some[0])
                while parts and size + n_bytes(parts[-1]) <= most:
                    some.append(parts.pop())
                    size += n_bytes(some[-1])
                self._runs.write(self.forms[side].blocks(some, self._runs.scratch.block_bytes), side)
        freed = self._room.size
        self._room.resize(0)
        return freed

    def windows(self) -> Iterator[Window] | None:
        """Windows over all records, sorted by key, the number of a part is its side. None when all is in memory and
        there is room to work on it: see :meth:`here`.
        """
        if self._runs is None:
            try:
                self._room.grow(self._room.size)  # for sorted copies
            except MemoryBudgetError:
                self._revoke(0)
        if self._runs is None:
            return None
        self._revoke(0)
        return self._runs.windows()

    @property
    def scratch(self) -> Scratch:
        """Disk space for those who work on what was spilled."""
        assert self._runs is not None
        return self._runs.scratch

    def here(self, side: int) -> list[Batch]:
        """What is in memory, in order of arrival."""
        return self._here[side]

    def taken(self, side: int) -> list[Batch]:
        """What is in memory of the only side, which is held no longer."""
        parts, self._here[side] = self._here[side], []
        self._room.resize(0)
        return parts

    def state(self) -> list[tuple[int, Batch]] | None:
        """Everything held, in memory, to be pickled; None when nothing is."""
        state = [(side, batch) for side, parts in enumerate(self._here) for batch in parts]
        if self._runs is not None:
            state = [*self._runs.blocks(), *state]
        return state or None

    def close(self) -> None:
        """Forget everything. Idempotent."""
        self._here = [[] for _ in self.forms]
        self._room.release()
        if self._runs is not None:
            self._runs.close()
            self._runs = None
