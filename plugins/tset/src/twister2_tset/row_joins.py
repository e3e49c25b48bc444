"""Joins of rows by named columns: what the two sides are made of, so that the operator joins columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from twister2.spec.batch import Batch, is_array, is_arrow, records
from twister2.spec.declarations import Declarations
from twister2.spec.errors import OperatorError, UsageError
from twister2.spec.tasks import Compute, Emit
from twister2_tset.columns import check_columns, same
from twister2_tset.forms import TABLE
from twister2_tset.problems import check_names, short

On = str | Sequence[str] | Mapping[str, str]
"""A column of both sides, several, or columns of the left with those of the right."""


def sides_of(on: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The key columns of the left and of the right.

    :raises UsageError: they are no names.
    """
    if isinstance(on, Mapping):
        left, right = tuple(on), tuple(on.values())
    elif isinstance(on, Sequence):
        left = right = (on,) if isinstance(on, str) else tuple(on)
    else:
        raise UsageError(
            f"join: on is {short(on)}",
            why="rows are joined by the names of columns",
            remedy='give on="name", on=["one", "two"] or on={"left column": "right column"}; pairs need none',
            where="join",
        )
    for names in (left, right):
        check_names(names, "join")
    return left, right


class AsColumns(Compute):
    """Rows as Arrow batches: dicts are converted, batch by batch; columns stay what they are.

    :param keys: columns that must be there.
    """

    narrow: ClassVar[bool] = True
    gives: ClassVar[str] = TABLE

    def __init__(self, keys: tuple[str, ...]) -> None:
        self.declares = Declarations(never_more=True, keeps_keys=True, schema=same, looks_at=keys)
        self._keys = list(keys)

    def process(self, batch: Batch, emit: Emit, edge: str) -> None:
        """Hand on one batch."""
        if is_arrow(batch):
            table = batch
        elif is_array(batch) and batch.dtype.names:
            table = _of_array(batch)
        else:
            rows = list(batch.tolist() if is_array(batch) else records(batch))
            if not rows:  # a step before has left nothing of the batch: that tells no columns
                return
            table = _of_rows(rows, self._keys)
        check_columns(self._keys, table.schema.names, "join")
        emit(table)


def _of_array(batch: Any) -> Any:
    import numpy
    import pyarrow

    try:
        columns = {name: numpy.ascontiguousarray(batch[name]) for name in batch.dtype.names}
        return pyarrow.table(
            {name: column.astype(column.dtype.newbyteorder("=")) for name, column in columns.items()}
        ).combine_chunks()
    except (pyarrow.ArrowException, TypeError, ValueError) as error:
        raise _no_columns(f"an array of {batch.dtype}", error) from error


def _of_rows(rows: list[Any], keys: list[str]) -> Any:
    import pyarrow

    for row in rows:
        if not isinstance(row, Mapping):
            raise OperatorError(
                f"join: {short(row)} has no columns",
                why=f"on=... joins rows with named columns, and a {type(row).__name__} is none",
                remedy="make dicts of the records first; or make pairs, key_by(function), and join without on",
                details={"record": short(row)},
            )
        check_columns(keys, row, "join")  # of each row: what is an error must not depend on how rows lie in batches
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {}
    for name in names:
        try:
            columns[name] = pyarrow.array([row.get(name) for row in rows])
        except (pyarrow.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise _no_columns(f"column {name!r}", error) from error
    return pyarrow.table(columns)


def _no_columns(what: str, error: Exception) -> OperatorError:
    return OperatorError(
        f"join: {what} cannot be joined as a column: {error}",
        why="on=... joins columns of one type each: numbers, text, bytes, times, and lists of these",
        remedy="give such values, or with_schema(...); or make pairs, key_by(name), and join without on",
    )
