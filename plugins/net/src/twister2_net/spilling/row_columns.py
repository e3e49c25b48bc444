"""The key columns of Arrow batches and numpy arrays, as records are ordered by them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.spec.batch import Batch, is_arrow
from twister2.spec.errors import OperatorError
from twister2_net.spilling.key_words import order_of, places, words_of
from twister2_net.spilling.sorted_columns import described, flat, unusable_keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2_net.spilling.record_order import RecordOrder

_MANY = 64
"""Bounds beyond which texts are looked at one by one instead of bound by bound."""


class RowColumns:
    """The keys of columns. :param order: whose keys are names, or the records themselves."""

    def __init__(self, order: RecordOrder) -> None:
        self._order = order
        self.label = order.label

    # -- columns ---------------------------------------------------------------------------------------------------

    def names(self, names: Sequence[str]) -> list[tuple[str, bool]]:
        """The key columns among these, and whether each descends.

        :raises OperatorError: one is not there.
        """
        parts = self._order.parts
        if not parts[0].name:
            return [(name, parts[0].descending) for name in names]
        unknown = [part.name for part in parts if part.name not in names]
        if unknown:
            raise OperatorError(
                f"{self.label} has no column {', '.join(map(repr, unknown))}",
                why=f"the batch has the columns {', '.join(names)}" if names else "its batches have no named columns",
                remedy="name key columns that all batches have",
                where=self.label,
            )
        return [(part.name, part.descending) for part in parts]

    def of(self, batch: Batch) -> list[tuple[Any, bool]]:
        """The key columns of a batch, numpy or Arrow arrays, and whether each descends."""
        if is_arrow(batch):
            return [(_plain(batch.column(name)), down) for name, down in self.names(batch.schema.names)]
        if batch.dtype.names:
            return [(batch[name], down) for name, down in self.names(batch.dtype.names)]
        if self._order.parts[0].name:
            self.names(())
        return [(batch, self._order.parts[0].descending)]

    def fits(self, batch: Batch) -> bool:
        """Whether the columns of an array have an order that numpy knows; Arrow knows one of all that has one."""
        return is_arrow(batch) or all(words_of(column[:1]) is not None for column, _ in self.of(batch))

    def check(self, batch: Any) -> None:
        """See that the key columns of an Arrow batch have an order.

        :raises OperatorError: one has none.
        """
        from pyarrow import types

        for name, _ in self.names(batch.schema.names):
            kind = batch.schema.field(name).type
            if types.is_nested(kind) or types.is_interval(kind):
                error = TypeError(f"values of type {kind} have no order")
                raise unusable_keys(self.label, "sort", described(batch, [name]), error)

    # -- sorting ---------------------------------------------------------------------------------------------------

    def positions(self, batch: Batch, tags: Any = None) -> Any:
        """The positions of the rows in order. :param tags: integers that decide between equal keys."""
        columns = self.of(batch)
        words: list[Any] = []
        for column, descending in columns:
            some = _words(column, descending)
            if some is None:
                return self._by_arrow(columns, tags)
            words += some
        return order_of(words if tags is None else [*words, tags])

    def _by_arrow(self, columns: Sequence[tuple[Any, bool]], tags: Any) -> Any:
        import pyarrow
        import pyarrow.compute

        table = {str(number): column for number, (column, _) in enumerate(columns)}
        keys = [(str(number), "descending" if down else "ascending") for number, (_, down) in enumerate(columns)]
        if tags is not None:
            table["tags"] = pyarrow.array(tags)
            keys.append(("tags", "ascending"))
        try:
            found = pyarrow.compute.sort_indices(pyarrow.table(table), sort_keys=keys)
        except (pyarrow.ArrowNotImplementedError, pyarrow.ArrowTypeError, pyarrow.ArrowInvalid) as error:
            raise self._no_order(columns, error) from error
        return found.to_numpy()

    def _no_order(self, columns: Sequence[tuple[Any, bool]], error: Exception) -> OperatorError:
        names = [f"{part.name!r} " if part.name else "" for part in self._order.parts]
        names += [""] * (len(columns) - len(names))
        kinds = [
            f"{name}of type {column.type if hasattr(column, 'type') else column.dtype}"
            for name, (column, _) in zip(names, columns, strict=False)
        ]
        return unusable_keys(self.label, "sort", ", ".join(kinds), error)

    # -- ranges ----------------------------------------------------------------------------------------------------

    def raw(self, batch: Batch, rows: Sequence[int]) -> list[Any]:
        """The keys of some rows, as they travel in samples: tuples where there are several."""
        import numpy

        where = numpy.asarray(rows)
        found = []
        for column, _ in self.of(batch):
            if hasattr(column, "to_pylist"):
                found.append(column.take(where).to_pylist())
                continue
            some = column[where]
            if some.dtype.kind in "mM":
                some = some.astype(some.dtype.newbyteorder("=")).view(numpy.int64)
            if some.ndim > 1:
                found.append([tuple(row) for row in some.tolist()])
            else:
                found.append([bytes(one) for one in some] if some.dtype.kind == "V" else some.tolist())
        return found[0] if len(found) == 1 else list(zip(*found, strict=True))

    def targets(self, batch: Batch, bounds: Sequence[Any]) -> Any:
        """For each row the number of bounds that are not above it; None where rows must be looked at one by one.

        :param bounds: ascending, as :meth:`raw` gives them.
        """
        columns = [(_wide(column), descending) for column, descending in self.of(batch)]
        if len(columns) == 1:
            by_column = [list(bounds)]
            if not hasattr(columns[0][0], "to_pylist"):
                by_column = [[bound for bound in bounds if bound is not None]]  # no row is behind null
        else:
            by_column = [list(some) for some in zip(*bounds, strict=True)]
        compared = [
            _Compared(column, some, descending) for (column, descending), some in zip(columns, by_column, strict=True)
        ]
        if all(one.words is not None for one in compared):
            words = [word for one in compared for word in one.words or ()]
            return places(words, [limit for one in compared for limit in one.limits])
        if len(bounds) > _MANY or not all(one.can_compare for one in compared):
            return None
        return self._by_bounds(columns, compared, len(by_column[0]))

    def _by_bounds(self, columns: Sequence[tuple[Any, bool]], compared: Sequence[_Compared], n: int) -> Any:
        """Bound by bound."""
        import numpy
        import pyarrow

        rows = len(columns[0][0])
        found = numpy.zeros(rows, numpy.int64)
        try:
            for number in range(n):
                above, equal = numpy.zeros(rows, bool), numpy.ones(rows, bool)
                for one in compared:
                    greater, same = one.with_bound(number)
                    above |= equal & greater
                    equal &= same
                found += above | equal
        except (pyarrow.ArrowNotImplementedError, pyarrow.ArrowTypeError, pyarrow.ArrowInvalid) as error:
            raise self._no_order(columns, error) from error
        return found

    def new(self, batch: Batch) -> Any:
        """For sorted rows: whether the keys of each differ from those of the row before it."""
        import numpy

        found = numpy.zeros(len(batch), bool)
        found[:1] = True
        for column, descending in self.of(batch):
            words = _words(column, descending)
            if words is None:
                same, null = _arrow_equal(column.slice(1), column.slice(0, len(column) - 1))
                found[1:] |= ~(same | null)
                continue
            for word in words:
                found[1:] |= word[1:] != word[:-1]
        return found


class _Compared:
    """A key column beside the bounds of ranges: as words where that can be, as a column of Arrow otherwise."""

    def __init__(self, column: Any, bounds: list[Any], descending: bool) -> None:
        self._column = column
        self._bounds = bounds
        self._descending = descending
        self.words: list[Any] | None = _words(column, descending)
        self.limits: list[Any] = []
        limits = None if self.words is None else _words_of_bounds(column, bounds, descending)
        if self.words is None or limits is None:
            self.words = None
            return
        width = max(len(self.words), len(limits))
        self.words, self.limits = _padded(self.words, width, descending), _padded(limits, width, descending)
        if any(word.dtype.kind != limit.dtype.kind for word, limit in zip(self.words, self.limits, strict=True)):
            self.words = None

    @property
    def can_compare(self) -> bool:
        """Whether :meth:`with_bound` knows how."""
        return self.words is not None or hasattr(self._column, "to_pylist")

    def with_bound(self, number: int) -> tuple[Any, Any]:
        """Whether each key is behind a bound, and whether it equals it."""
        import numpy

        rows = len(self._column)
        if self.words is not None:
            above, equal = numpy.zeros(rows, bool), numpy.ones(rows, bool)
            for word, limit in zip(self.words, self.limits, strict=True):
                above |= equal & (word > limit[number])
                equal &= word == limit[number]
            return above, equal
        import pyarrow
        from pyarrow import compute

        null = self._column.is_null().to_numpy(zero_copy_only=False)
        bound = self._bounds[number]
        if bound is None:
            return numpy.zeros(rows, bool), null
        if pyarrow.types.is_null(self._column.type):  # nulls come last
            return null, ~null
        kind = self._column.type
        # of another worker, whose decimals may have more digits
        limit = pyarrow.scalar(bound, None if pyarrow.types.is_decimal(kind) else kind)
        greater = (compute.less if self._descending else compute.greater)(self._column, limit)
        same = compute.equal(self._column, limit)
        behind = greater.fill_null(True).to_numpy(zero_copy_only=False)
        return behind, same.fill_null(False).to_numpy(zero_copy_only=False)


def _arrow_equal(left: Any, right: Any) -> tuple[Any, Any]:
    """Whether the values of two columns are equal, and whether both are null."""
    from pyarrow import compute, types

    null = compute.and_(left.is_null(), right.is_null()).to_numpy(zero_copy_only=False)
    if types.is_null(left.type):  # which pyarrow does not compare
        return null, null
    return compute.equal(left, right).fill_null(False).to_numpy(zero_copy_only=False), null


def _wide(column: Any) -> Any:
    """A column of numbers of 64 bits, so that bounds of other widths compare exactly."""
    import numpy

    if hasattr(column, "to_pylist") or column.ndim > 1:
        return column
    wide = {"i": numpy.int64, "u": numpy.uint64, "f": numpy.float64}.get(column.dtype.kind)
    return column if wide is None or column.dtype.itemsize > 8 else column.astype(wide, copy=False)


def _plain(column: Any) -> Any:
    """A column of an Arrow batch: an array of numpy where it is one of numbers without nulls; dictionaries decoded,
    times as numbers.
    """
    import pyarrow
    from pyarrow import types

    if isinstance(column, pyarrow.ChunkedArray):
        column = column.combine_chunks()
        if isinstance(column, pyarrow.ChunkedArray):
            column = pyarrow.concat_arrays(column.chunks)
    if column.null_count or types.is_float16(column.type) or not types.is_floating(column.type):
        column = flat(column)
    if types.is_temporal(column.type) and not types.is_interval(column.type):
        column = column.cast(pyarrow.int32() if column.type.bit_width == 32 else pyarrow.int64())
    if (types.is_integer(column.type) or types.is_floating(column.type)) and column.null_count == 0:
        return column.to_numpy(zero_copy_only=False)
    return column


def _words(column: Any, descending: bool) -> list[Any] | None:
    """The words of a column; two of an Arrow column of numbers with nulls, which come last; None for others."""
    if not hasattr(column, "to_pylist"):
        return words_of(column, descending=descending)
    from pyarrow import types

    if not (types.is_integer(column.type) or types.is_floating(column.type)):
        return None
    import numpy
    import pyarrow

    null = column.is_null().to_numpy(zero_copy_only=False)
    whole = _wide(column.fill_null(pyarrow.scalar(0, column.type)).to_numpy(zero_copy_only=False))
    words = words_of(whole, descending=descending)
    return None if words is None else [null.astype(numpy.int8), *words]


def _words_of_bounds(column: Any, bounds: list[Any], descending: bool) -> list[Any] | None:
    """The words of bounds, as those of the column they bound; None when they are no such values."""
    import numpy

    nullable = hasattr(column, "to_pylist")
    missing = [bound is None for bound in bounds]
    if any(missing) and not nullable:
        return None
    like = _wide(column.slice(0, 0).to_numpy(zero_copy_only=False)) if nullable else column
    try:
        found = _as_array([0 if bound is None else bound for bound in bounds], like)
    except (OverflowError, ValueError, TypeError):
        return None
    words = None if found is None else words_of(found, descending=descending)
    if words is None:
        return None
    return [numpy.asarray(missing, numpy.int8), *words] if nullable else words


def _as_array(values: list[Any], like: Any) -> Any:
    """Bounds as an array like the column they bound, or None where that would change one."""
    import numpy

    kind = like.dtype.kind
    if like.ndim > 1 or kind in "Vf":
        return numpy.asarray(values, like.dtype)
    if kind in "mM":
        return numpy.asarray(values, numpy.int64).view(like.dtype.newbyteorder("="))
    if kind in "SU":
        return numpy.asarray(values, kind) if all(isinstance(one, (str, bytes)) for one in values) else None
    found = numpy.asarray(values, like.dtype if not values else None)
    if found.dtype.kind == "i" and kind == "u" and (found >= 0).all():
        return found.astype(numpy.uint64)
    return found if found.dtype.kind == kind else None


def _padded(words: list[Any], width: int, descending: bool) -> list[Any]:
    """Words of shorter texts, with the words of nothing behind them."""
    import numpy

    if len(words) == width:
        return words
    nothing = ~numpy.uint64(0) if descending else numpy.uint64(0)
    return words + [numpy.full(len(words[0]), nothing, numpy.uint64)] * (width - len(words))
