"""Cutting a batch into one part per target, and collecting small parts into batches worth sending."""

from __future__ import annotations

from itertools import compress
from operator import not_
from typing import TYPE_CHECKING, Any

from twister2.spec.batch import Batch, is_array, is_arrow, n_records

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_BY_MASK = 4
"""Targets up to which batches are cut by masks."""

_WORTH = 32
"""Records from which on lists are cut without a loop."""


def split(batch: Batch, targets: Sequence[int], n: int) -> Iterator[tuple[int, Batch]]:
    """The parts of a batch, by ascending target; the order of records within a part is that of the batch."""
    if is_array(batch) or is_arrow(batch):
        yield from _split_rows(batch, targets, n)
        return
    many = len(targets) >= _WORTH
    if many and not isinstance(targets, list):
        import numpy

        for target, part in _split_rows(numpy.fromiter(batch, object, len(batch)), targets, n):
            yield target, part.tolist()
        return
    if many and n == 2:
        yield from _split_by_masks(batch, targets)
        return
    if not isinstance(targets, list):
        targets = targets.tolist()  # type: ignore[attr-defined]
    parts: list[list[Any]] = [[] for _ in range(n)]
    add = [part.append for part in parts]
    for target, record in zip(targets, batch, strict=True):
        add[target](record)
    for target, part in enumerate(parts):
        if part:
            yield target, part


def _split_by_masks(batch: Batch, targets: Sequence[int]) -> Iterator[tuple[int, Batch]]:
    """For two targets: one pass in C for each of them."""
    for target in range(2):
        part = list(compress(batch, targets if target else map(not_, targets)))
        if part:
            yield target, part


def _split_rows(batch: Batch, targets: Sequence[int], n: int) -> Iterator[tuple[int, Batch]]:
    import numpy

    where = numpy.asarray(targets)
    if n <= _BY_MASK:
        for target in range(n):
            rows = numpy.flatnonzero(where == target)
            if len(rows) == len(where):
                yield target, batch
                return
            if len(rows):
                yield target, batch.take(rows, axis=0) if is_array(batch) else batch.take(rows)
        return
    if where.dtype.itemsize > 2:
        where = where.astype(numpy.uint16 if n <= 65536 else numpy.int64)
    order = numpy.argsort(where, kind="stable")  # by counting, for integers of 16 bits
    ends = numpy.cumsum(numpy.bincount(where, minlength=n)).tolist()
    start = 0
    if is_array(batch):
        batch = batch.take(order, axis=0)
        for target, end in enumerate(ends):
            if end > start:
                yield target, batch[start:end]
                start = end
        return
    for target, end in enumerate(ends):
        if end > start:
            yield target, batch.take(order[start:end])
            start = end


def without_views(batch: Any) -> Any:
    """An Arrow batch whose columns of views, or of run ends, are plain: pyarrow does not take single rows of those."""
    from pyarrow import compute, large_binary, large_string, types

    schema = batch.schema
    for number, kind in enumerate(schema.types):
        if types.is_run_end_encoded(kind):
            column = compute.run_end_decode(batch.column(number))
        elif types.is_string_view(kind) or types.is_binary_view(kind):
            column = batch.column(number).cast(large_string() if types.is_string_view(kind) else large_binary())
        else:
            continue
        batch = batch.set_column(number, schema.field(number).with_type(column.type), column)
    return batch


def form_of(batch: Batch) -> Any:
    """Batches of equal form can be put together."""
    if is_array(batch):
        return batch.dtype.str, batch.shape[1:]
    if is_arrow(batch):
        return batch.schema.serialize().to_pybytes()
    return None


class Collected:
    """Parts for one target that wait to become a batch."""

    __slots__ = ("count", "form", "parts")

    def __init__(self) -> None:
        self.parts: list[Batch] = []
        self.count = 0
        self.form: Any = None

    def fits(self, form: Any) -> bool:
        """Whether a part of this form can join."""
        return not self.parts or self.form == form

    def add(self, part: Batch, form: Any) -> None:
        """Take a part."""
        self.form = form
        self.count += n_records(part)
        self.parts.append(part)

    def take(self) -> Batch:
        """Everything as one batch; empty afterwards."""
        parts, self.parts, self.count = self.parts, [], 0
        if len(parts) == 1:
            return parts[0]
        if is_array(parts[0]):
            import numpy

            return numpy.concatenate(parts, dtype=parts[0].dtype)  # else in native byte order
        if is_arrow(parts[0]):
            import pyarrow

            tables = [part if isinstance(part, pyarrow.Table) else pyarrow.Table.from_batches([part]) for part in parts]
            return pyarrow.concat_tables(tables).combine_chunks().to_batches()[0]
        whole: list[Any] = []
        for part in parts:
            whole += part
        return whole
