"""How a value stands to another, the same on columns of Arrow as in Python: what selects rows compares with these."""

from __future__ import annotations

import operator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from numbers import Number
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

RELATIONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda value, wanted: value == value and value in wanted,
    "not in": lambda value, wanted: value != value or value not in wanted,
}
"""From the sign of a relation to its test of two values, of which none is missing. NaN is in no list."""

OF_MISSING: Mapping[str, bool] = {"is null": True, "is not null": False}
"""Relations to nothing: whether a value is missing, or is not."""


def holds(relation: str, value: Any) -> Callable[[Any], Any]:
    """The test of a single value, which may be missing."""
    if relation in OF_MISSING:
        missing = OF_MISSING[relation]
        return lambda here: (here is None) is missing
    test = RELATIONS[relation]
    return lambda here: here is not None and test(here, value)


def said(column: str, relation: str, value: Any) -> str:
    """A comparison in words, for plans; ``value`` as it is to be shown."""
    return f"{column} {relation}" if relation in OF_MISSING else f"{column} {relation} {value}"


_KERNELS = {"==": "equal", "!=": "not_equal", "<": "less", "<=": "less_equal", ">": "greater", ">=": "greater_equal"}


def satisfying(column: Any, relation: str, value: Any) -> Any:
    """The mask of the values of an Arrow column that stand in a relation to ``value``: those for which it holds in
    Python. Where the column is null, nothing but ``is null`` is satisfied.

    :param value: of ``in`` and ``not in``: a collection; of ``is null`` and ``is not null``: None.
    :raises TypeError: the values of the column cannot be compared with it.
    """
    import pyarrow

    if pyarrow.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)  # a null may be among its values
    if relation in OF_MISSING:
        return column.is_null() if OF_MISSING[relation] else column.is_valid()
    if pyarrow.types.is_float16(column.type):
        column = column.cast("float")  # Arrow looks for none in a list
    try:
        return _mask(column, relation, value)
    except (pyarrow.ArrowException, ArithmeticError, ValueError) as error:
        raise TypeError(str(error)) from error


def _mask(column: Any, relation: str, value: Any) -> Any:
    import pyarrow
    from pyarrow import compute

    kind = column.type
    if pyarrow.types.is_null(kind):
        return pyarrow.array([False] * len(column), "bool")
    if relation == "in":
        return compute.is_in(column, value_set=_held(value, kind))
    if relation == "not in":
        return compute.and_(compute.invert(_mask(column, "in", value)), column.is_valid())
    if _is_told_apart(kind, value):
        return _in_python(column, relation, value)
    try:
        return getattr(compute, _KERNELS[relation])(column, _scalar(value, kind))
    except (pyarrow.ArrowException, TypeError, OverflowError):
        if _number(kind) is None or not isinstance(value, Number):
            raise
        return _in_python(column, relation, value)  # Arrow has no type for both


def _in_python(column: Any, relation: str, value: Any) -> Any:
    import pyarrow

    test = RELATIONS[relation]
    return pyarrow.array([here is not None and bool(test(here, value)) for here in column.to_pylist()], "bool")


def _is_told_apart(kind: Any, value: Any) -> bool:
    """Whether Arrow would take a value, which Python tells apart from those of a type, for one of them."""
    from pyarrow import types

    if isinstance(value, datetime):
        return bool(types.is_date(kind))
    if isinstance(value, date):
        return bool(types.is_timestamp(kind))
    if isinstance(value, str):
        return _is_binary(kind)
    if isinstance(value, (bytes, bytearray)):
        return bool(types.is_string(kind) or types.is_large_string(kind))
    if isinstance(value, Decimal):
        return bool(types.is_floating(kind))
    return isinstance(value, float) and bool(types.is_decimal(kind))


def _is_binary(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind))


def _scalar(value: Any, kind: Any) -> Any:
    """A value as Arrow compares it with a column: integers, of which Arrow widens the type, as the column's."""
    import pyarrow

    if isinstance(value, int) and pyarrow.types.is_integer(kind):
        try:
            return pyarrow.scalar(value, kind)
        except (pyarrow.ArrowException, OverflowError):
            pass
    return pyarrow.scalar(value)


def _held(values: Iterable[Any], kind: Any) -> Any:
    """Those of some values that a type holds as they are; no value of the column equals another one."""
    import pyarrow

    wanted = [value for value in values if value is not None]
    try:
        found = pyarrow.array(wanted, kind)
    except (pyarrow.ArrowException, TypeError, OverflowError):
        found = None
    if found is None or found.to_pylist() != wanted:
        found = pyarrow.array([held for value in wanted if (held := _as(value, kind)) is not None], kind)
    if pyarrow.types.is_floating(kind) and 0 in wanted:
        found = pyarrow.concat_arrays([found, pyarrow.array([0.0, -0.0]).cast(kind)])  # Arrow looks for their bits
    return found


def _as(value: Any, kind: Any) -> Any:
    """A value as one of a type; None where the type holds none that equals it."""
    import pyarrow

    number = _number(kind) if isinstance(value, Number) else None
    if number is None and _is_told_apart(kind, value):
        return None
    try:
        found = pyarrow.scalar(value if number is None else number(value), kind).as_py()
    except (ArithmeticError, ValueError):
        if number is None and not isinstance(value, (date, time, timedelta)):
            raise
        return None
    return found if found == value else None


def _number(kind: Any) -> Callable[[Any], Any] | None:
    """What makes a number one of a type; None of types of other things."""
    from pyarrow import types

    if types.is_boolean(kind):
        return bool
    if types.is_integer(kind):
        return int
    if types.is_floating(kind):
        return float
    return Decimal if types.is_decimal(kind) else None
