"""By ranges of keys."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from twister2.spec.batch import Batch, is_array, records
from twister2.spec.tracebacks import short
from twister2_net.problems import no_order, not_compared, user_error, wrong_option
from twister2_net.selectors.base import Key, Selector
from twister2_net.selectors.key_columns import array_column, arrow_column, arrow_keys, by_columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2.spec.errors import Twister2Error


class Range(Selector):
    """By sorted bounds: target i takes keys from ``bounds[i - 1]`` (included) to ``bounds[i]`` (excluded)."""

    def __init__(
        self,
        n: int,
        label: str,
        task: int,
        key: Key | None,
        bounds: Sequence[Any],
        columns: Sequence[str] = (),
        *,
        descending: bool = False,
    ) -> None:
        super().__init__(n, label, task)
        self.key = key
        self.columns = columns
        self.descending = descending
        self.bounds = bounds
        try:
            falls = next((after for before, after in pairwise(bounds) if after < before), None)
        except Exception as error:
            raise not_compared(error, label) from error
        if falls is not None:
            raise wrong_option(
                label, "bounds", f"{short(falls)} is less than the bound before it", "give them in ascending order"
            )

    def assign(self, batch: Batch) -> Sequence[int]:
        bounds, key, last = self.bounds, self.key, self.n - 1
        column = self._column(batch)
        whole = self._whole(column)
        if whole is not None:
            return last - whole if self.descending else whole  # type: ignore[no-any-return]
        try:
            if column is not None:
                values = column if isinstance(column, list) else column.tolist()
                found = [bisect_right(bounds, value) for value in values]
            elif by_columns(batch, key, self.columns):
                found = [bisect_right(bounds, value) for value in arrow_keys(batch, self.columns, self.label)]
            elif key is None:
                found = [bisect_right(bounds, record) for record in records(batch)]
            else:
                found = [bisect_right(bounds, key(record)) for record in records(batch)]
        except Exception as error:
            raise self._found(batch, error) from error
        return [last - target for target in found] if self.descending else found

    def _column(self, batch: Batch) -> Any:
        """The keys as an array of numbers or a list of values; None when records must be looked at one by one."""
        if is_array(batch):
            return array_column(batch, self.key, self.columns, self.label)
        if by_columns(batch, self.key, self.columns):
            column, _ = arrow_column(batch, self.columns, self.label)
            return None if isinstance(column, list) else column
        return None

    def _whole(self, column: Any) -> Any:
        """The targets of a column of numbers, without a loop; None for others."""
        if column is None or isinstance(column, list):
            return None
        import numpy

        bounds = numpy.asarray(self.bounds)
        if not len(bounds):
            return numpy.zeros(len(column), numpy.int64)
        if bounds.dtype.kind == "i" and column.dtype.kind == "u":
            bounds = numpy.maximum(bounds, 0).astype(numpy.uint64)  # no key lies below 0
        elif bounds.dtype.kind != column.dtype.kind:
            return None  # numpy would compare as floats what Python compares exactly
        return numpy.searchsorted(bounds, column, side="right")

    def _found(self, batch: Batch, error: Exception) -> Twister2Error:
        """The record that made trouble, by trying one after the other."""
        if by_columns(batch, self.key, self.columns):
            return not_compared(error, self.label)
        for record in records(batch):
            try:
                key = record if self.key is None else self.key(record)
            except Exception as raised:
                return user_error(raised, "key function", self.label, self.task, record)
            try:
                bisect_right(self.bounds, key)
            except TypeError as raised:
                return no_order(self.label, raised)
            except Exception as raised:
                return user_error(raised, "order of keys", self.label, self.task, record)
        return user_error(error, "order of keys", self.label, self.task, batch)
