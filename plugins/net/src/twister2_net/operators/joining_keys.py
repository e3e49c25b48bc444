"""Key columns of two Arrow tables whose types differ: compared by value, and made one column."""

from __future__ import annotations

from typing import Any

from twister2.spec.errors import OperatorError
from twister2_net.spilling.sorted_columns import flat

_END = 2.0**63
"""The first number that is too large for 64 bits with a sign."""


_FAMILIES = (
    ("integers", ("is_integer",)),
    ("floats", ("is_floating",)),
    ("decimals", ("is_decimal",)),
    ("truth values", ("is_boolean",)),
    ("text", ("is_string", "is_large_string")),
    ("bytes", ("is_binary", "is_large_binary", "is_fixed_size_binary")),
    ("dates", ("is_date",)),
    ("times of day", ("is_time",)),
    ("durations", ("is_duration",)),
)
"""Types whose values are compared with each other, by what pyarrow asks for them."""
_COMPARED = frozenset({"integers", "floats"})
"""The families that are compared with each other, without rounding."""


def common(left: Any, right: Any) -> list[Any]:
    """Two key columns one behind the other, as columns that are equal where the keys are.

    :raises pyarrow.ArrowInvalid, pyarrow.ArrowTypeError: the types cannot be compared.
    """
    import pyarrow

    both = [_in_utc(flat(column)) for column in (left, right)]
    families = [_family(column.type) for column in both if not pyarrow.types.is_null(column.type)]
    if len(set(families)) > 1 and set(families) != _COMPARED:
        raise pyarrow.ArrowTypeError(f"{families[0]} are not compared with {families[1]}")
    if _mixed(*(column.type for column in both)):
        parts = [_by_range(column) for column in both]
    else:
        parts = [[column] for column in both]
    tables = [pyarrow.table({str(number): part for number, part in enumerate(side)}) for side in parts]
    whole = pyarrow.concat_tables(tables, promote_options="permissive")
    return [whole.column(name) for name in whole.schema.names]


def _family(kind: Any) -> str:
    from pyarrow import types

    if types.is_timestamp(kind):
        return "timestamps with a zone" if kind.tz else "timestamps without a zone"
    for name, tests in _FAMILIES:
        if any(getattr(types, test)(kind) for test in tests):
            return name
    return str(kind)


def _in_utc(column: Any) -> Any:
    """Timestamps of any zone as those of one: the numbers are the same."""
    import pyarrow

    kind = column.type
    if pyarrow.types.is_timestamp(kind) and kind.tz not in (None, "UTC"):
        return column.cast(pyarrow.timestamp(kind.unit, "UTC"))
    return column


def _mixed(left: Any, right: Any) -> bool:
    """Whether no type of 64 bits holds the numbers of both types: integers beside floats, or beside unsigned ones."""
    from pyarrow import types

    integers = [types.is_integer(one) for one in (left, right)]
    if all(integers):
        return left != right and any(types.is_uint64(one) for one in (left, right))
    return any(integers) and any(types.is_floating(one) for one in (left, right))


def _by_range(column: Any) -> list[Any]:
    """Numbers as three columns, each number in one of them: int64, uint64 beyond, and floats that are no integers."""
    import pyarrow
    from pyarrow import compute

    kinds = [pyarrow.int64(), pyarrow.uint64(), pyarrow.float64()]
    if pyarrow.types.is_integer(column.type):
        if not pyarrow.types.is_uint64(column.type):
            return [column.cast(kinds[0]), *(pyarrow.nulls(len(column), kind) for kind in kinds[1:])]
        small = compute.less(column, pyarrow.scalar(1 << 63, kinds[1]))
        none = pyarrow.scalar(None, kinds[1])
        return [
            compute.if_else(small, column, none).cast(kinds[0]),
            compute.if_else(small, none, column),
            pyarrow.nulls(len(column), kinds[2]),
        ]
    numbers = column.cast(kinds[2])
    none = pyarrow.scalar(None, kinds[2])
    integral = compute.equal(compute.floor(numbers), numbers)
    small = compute.and_(compute.greater_equal(numbers, -_END), compute.less(numbers, _END))
    large = compute.and_(compute.greater_equal(numbers, _END), compute.less(numbers, 2 * _END))
    parts = [compute.if_else(compute.and_(integral, some), numbers, none) for some in (small, large)]
    whole = compute.and_(integral, compute.or_(small, large))
    return [parts[0].cast(kinds[0]), parts[1].cast(kinds[1]), compute.if_else(whole, none, numbers)]


def filled(column: Any, other: Any, has_left: Any, name: str, label: str) -> Any:
    """A key column of the left, filled up from the right where there is no left row.

    It has the type of the left; only where that cannot hold the values, the type of the right.

    :raises OperatorError: neither type holds the values of both.
    """
    import pyarrow
    from pyarrow import compute

    if column.type == other.type and not pyarrow.types.is_dictionary(column.type):
        return compute.if_else(has_left, flat(column), flat(other)).cast(column.type)
    other = flat(other)
    for kind in _types(column.type, other.type):
        try:
            return compute.if_else(has_left, column.cast(kind), other.cast(kind))
        except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError, pyarrow.ArrowTypeError):
            continue
    raise OperatorError(
        f"{label} has keys {name} that fit into no column",
        why=f"neither {column.type} nor {other.type} holds the keys of both sides",
        remedy="cast the key columns to one type first",
        where=label,
    )


def _types(left: Any, right: Any) -> list[Any]:
    from pyarrow import types

    if types.is_floating(left) and types.is_floating(right) and right.bit_width > left.bit_width:
        return [right]  # a cast to the narrower one would round
    if types.is_dictionary(left):
        return [left.value_type, right]
    return [left, right]
