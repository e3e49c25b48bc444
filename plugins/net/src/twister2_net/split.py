"""Cutting a batch into one part per target, and collecting small parts into batches worth sending."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.spec.batch import Batch, is_array, is_arrow, n_records

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def split(batch: Batch, targets: Sequence[int], n: int) -> Iterator[tuple[int, Batch]]:
    """The parts of a batch, by ascending target; the order of records within a part is that of the batch."""
    if is_array(batch) or is_arrow(batch):
        yield from _split_rows(batch, targets, n)
        return
    parts: list[list[Any]] = [[] for _ in range(n)]
    add = [part.append for part in parts]
    for target, record in zip(targets, batch, strict=True):
        add[target](record)
    for target, part in enumerate(parts):
        if part:
            yield target, part


def _split_rows(batch: Batch, targets: Sequence[int], n: int) -> Iterator[tuple[int, Batch]]:
    import numpy

    where = numpy.asarray(targets, dtype=numpy.int64)
    order = numpy.argsort(where, kind="stable")
    ends = numpy.cumsum(numpy.bincount(where, minlength=n))
    start = 0
    for target in range(n):
        end = int(ends[target])
        if end > start:
            rows = order[start:end]
            yield target, batch[rows] if is_array(batch) else batch.take(rows)
            start = end


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

            return numpy.concatenate(parts)
        if is_arrow(parts[0]):
            import pyarrow

            tables = [part if isinstance(part, pyarrow.Table) else pyarrow.Table.from_batches([part]) for part in parts]
            return pyarrow.concat_tables(tables).combine_chunks().to_batches()[0]
        whole: list[Any] = []
        for part in parts:
            whole += part
        return whole
