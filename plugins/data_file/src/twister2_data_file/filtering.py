"""The predicate of a read: ``[(column, comparison, value), ...]``, held against statistics and against rows."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from twister2.spec.errors import UsageError
from twister2.spec.relations import satisfying
from twister2_data_file.problems import check_columns, not_the_format

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_MAY_HOLD: Mapping[str, Callable[[Any, Any, Any], bool]] = {
    "==": lambda low, high, value: low <= value <= high,
    "!=": lambda _low, _high, _value: True,  # bounds may be truncated, and NaN is in no statistics
    "<": lambda low, _, value: operator.lt(low, value),
    "<=": lambda low, _, value: operator.le(low, value),
    ">": lambda _, high, value: operator.gt(high, value),
    ">=": lambda _, high, value: operator.ge(high, value),
    "in": lambda low, high, values: any(low <= value <= high for value in values),
    "not in": lambda _low, _high, _values: True,
    "is null": lambda _low, _high, _none: True,
    "is not null": lambda _low, _high, _none: True,
}
"""Whether rows with values in ``[low, high]`` may hold one for which the comparison is true."""


def check_predicate(predicate: Sequence[Any]) -> None:
    """See that every entry is a comparison that is known.

    :raises UsageError: it is not.
    """
    for entry in predicate:
        if isinstance(entry, str) or len(entry) != 3:
            raise UsageError(
                f"predicate: {entry!r} is no comparison",
                why='one is (column, comparison, value), and a predicate is a list of them: [("n", ">", 3)]',
                remedy="write it so",
            )
        column, comparison, value = entry
        if comparison not in _MAY_HOLD:
            raise UsageError(
                f"predicate: no comparison {comparison!r}",
                why=f"those that can be used are {', '.join(_MAY_HOLD)}",
                remedy="use one of them, or filter the records",
            )
        if comparison in ("in", "not in") and (isinstance(value, (str, bytes)) or not hasattr(value, "__iter__")):
            raise UsageError(
                f"predicate: {column!r} {comparison} {value!r}",
                why=f"{comparison} compares with a list of values",
                remedy=f'write [("{column}", "{comparison}", [...])]',
            )


def may_hold(comparison: str, low: Any, high: Any, value: Any) -> bool:
    """Whether rows between these bounds may satisfy a comparison; values of another kind say nothing."""
    try:
        return _MAY_HOLD[comparison](low, high, value)
    except (TypeError, ArithmeticError):  # NaN and decimals
        return True


def matching(batch: Any, predicate: Sequence[tuple[str, str, Any]], columns: Sequence[str] | None, path: str) -> Any:
    """The rows of an Arrow record batch for which all comparisons hold, with these columns (None: all).

    As in SQL a null satisfies no comparison but ``is null``, not even ``!=``.

    :raises DataFormatError: a column is not there, or cannot be compared with the value given.
    """
    for column, comparison, value in predicate:
        check_columns(path, [column], batch.schema.names)
        values = batch.column(column)
        try:
            keep = satisfying(values, comparison, value)
        except TypeError as error:
            raise not_the_format(
                path,
                f"column {column!r} of type {values.type} cannot be compared with {value!r}",
                str(error),
                "give a value of the column's type",
            ) from error
        batch = batch.filter(keep)  # a null in the mask drops the row
    return batch if columns is None else batch.select(list(columns))


def columns_to_read(columns: Sequence[str] | None, predicate: Sequence[tuple[str, str, Any]]) -> list[str] | None:
    """The wanted columns and those of the predicate; None for all."""
    if columns is None:
        return None
    return list(dict.fromkeys([*columns, *(column for column, _, _ in predicate)]))
