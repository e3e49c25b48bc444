"""Arrow types of what JSON holds: of single values, of the objects of many lines, and what those have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2_data_file.arrow_types import common_type

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LARGE = 1 << 63


def json_type(value: Any) -> Any:
    """The type of a value as :mod:`json` gives it. Text is text, whatever it looks like.

    An integer is 64 bits long, without a sign only when it needs to be; none holds larger ones.
    """
    import pyarrow

    if value is None:
        return pyarrow.null()
    if isinstance(value, bool):
        return pyarrow.bool_()
    if isinstance(value, int):
        return pyarrow.uint64() if LARGE <= value < 2 * LARGE else pyarrow.int64()
    if isinstance(value, float):
        return pyarrow.float64()
    if isinstance(value, str):
        return pyarrow.string()
    if isinstance(value, list):
        found = pyarrow.null()
        for each in value:
            found = both_types(found, json_type(each)) or found
        return pyarrow.list_(found)
    return pyarrow.struct([(name, json_type(each)) for name, each in value.items()])


def both_types(first: Any, second: Any) -> Any | None:
    """The type of values of both, None when there is none. Objects have the fields of both: others are null."""
    import pyarrow
    from pyarrow import types

    if types.is_struct(first) and types.is_struct(second):
        found = {field.name: field.type for field in first}
        for field in second:
            both = both_types(found[field.name], field.type) if field.name in found else field.type
            if both is None:
                return None
            found[field.name] = both
        return pyarrow.struct(list(found.items()))
    if types.is_list(first) and types.is_list(second):
        inner = both_types(first.value_type, second.value_type)
        return None if inner is None else pyarrow.list_(inner)
    if {str(first), str(second)} == {"int64", "uint64"}:
        return pyarrow.uint64()
    return common_type(first, second)


def add_types(found: dict[str, Any], objects: Iterable[Mapping[str, Any]]) -> None:
    """Add the fields of objects to types by name; where two do not go together, the first stays."""
    for each in objects:
        for name, value in each.items():
            known = found.get(name)
            kind = json_type(value)
            if known is None:
                found[name] = kind
            elif not known.equals(kind):
                found[name] = both_types(known, kind) or known


def misfit(value: Any, wanted: Any, name: str) -> str | None:
    """Why a value does not fit a type, in words; None when it seems to."""
    from pyarrow import types

    if value is None:
        return None
    if types.is_struct(wanted) and isinstance(value, dict):
        strange = next((each for each in value if wanted.get_field_index(each) < 0), None)
        if strange is not None:
            return f"field {name}.{strange} is not in the first lines of the files"
        found = (misfit(each, wanted.field(key).type, f"{name}.{key}") for key, each in value.items())
        return next((why for why in found if why), None)
    if types.is_list(wanted) and isinstance(value, list):
        found = (misfit(each, wanted.value_type, f"{name}[{number}]") for number, each in enumerate(value))
        return next((why for why in found if why), None)
    kind = json_type(value)
    if both_types(wanted, kind) == wanted and not (isinstance(value, int) and _too_large(value, wanted)):
        return None
    if isinstance(value, str) and not types.is_nested(wanted) and not types.is_integer(wanted):
        return None  # a time perhaps: pyarrow says what is wrong with it
    return f"{name} is {value!r:.60}, which is no {wanted}"


def _too_large(value: int, wanted: Any) -> bool:
    from pyarrow import types

    if not types.is_integer(wanted):
        return False
    bits = wanted.bit_width
    low, high = (0, 1 << bits) if types.is_unsigned_integer(wanted) else (-(1 << (bits - 1)), 1 << (bits - 1))
    return not low <= value < high
