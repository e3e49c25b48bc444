"""Arrow types of what JSON holds: of single values, of the objects of many lines, and what those have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2_data_file.arrow_types import common_type

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LARGE = 1 << 63
DEEPEST = 32
"""Levels of lists and objects in a value; schemas of Arrow travel with twice as many at most."""

_PLAIN = (type(None), bool, int, float, str)


class TooDeepError(ValueError):
    """A value has too many levels."""


def json_type(value: Any, level: int = 0) -> Any:
    """The type of a value as :mod:`json` gives it. Text is text, whatever it looks like.

    An integer is 64 bits long, without a sign only when it needs to be; none holds larger ones.

    :raises TooDeepError: it has more than :data:`DEEPEST` levels.
    """
    import pyarrow

    if level > DEEPEST:
        raise TooDeepError(f"a value has more than {DEEPEST} levels of lists and objects")
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
            found = _wider(found, json_type(each, level + 1))
        return pyarrow.list_(found)
    return pyarrow.struct([(name, json_type(each, level + 1)) for name, each in value.items()])


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


def _wider(known: Any, other: Any) -> Any:
    """The type of both, the first where there is none."""
    both = both_types(known, other)
    return known if both is None else both


def add_types(found: dict[str, Any], objects: Iterable[Mapping[str, Any]]) -> None:
    """Add the fields of objects to types by name; where two do not go together, the first stays."""
    seen: set[tuple[str, type]] = set()  # what need not be looked at again, as most values
    for each in objects:
        for name, value in each.items():
            plain = name, type(value)
            if plain in seen and (plain[1] is not int or value < LARGE):
                continue
            known, kind = found.get(name), json_type(value)
            found[name] = kind if known is None else _wider(known, kind)
            if plain[1] in _PLAIN:
                seen.add(plain)


def misfit(value: Any, wanted: Any, name: str) -> str | None:
    """Why a value does not fit a type, in words; None when it seems to."""
    from pyarrow import types

    if value is None:
        return None
    found: Iterable[str | None] = ()
    if types.is_struct(wanted) and isinstance(value, dict):
        strange = next((each for each in value if wanted.get_field_index(each) < 0), None)
        if strange is not None:
            return f"field {name}.{strange} is not in the first lines of the files"
        found = (misfit(each, wanted.field(key).type, f"{name}.{key}") for key, each in value.items())
    elif types.is_list(wanted) and isinstance(value, list):
        found = (misfit(each, wanted.value_type, f"{name}[{number}]") for number, each in enumerate(value))
    elif not _scalar_fits(value, wanted):
        return f"{name} is {value!r:.60}, which is no {wanted}"
    return next((why for why in found if why), None)


def has_objects(wanted: Any) -> bool:
    """Whether values of a type hold objects."""
    from pyarrow import types

    return bool(types.is_struct(wanted)) or (types.is_list(wanted) and has_objects(wanted.value_type))


def _scalar_fits(value: Any, wanted: Any) -> bool:
    from pyarrow import types

    if isinstance(value, (dict, list)) or types.is_nested(wanted) or types.is_null(wanted):
        return False
    if isinstance(value, bool) or types.is_boolean(wanted):
        return isinstance(value, bool) and types.is_boolean(wanted)
    if types.is_integer(wanted):
        return isinstance(value, int) and _in_range(value, wanted)
    if types.is_floating(wanted):
        return isinstance(value, (int, float))
    # of times in text pyarrow says what is wrong
    return isinstance(value, str) or (not types.is_string(wanted) and isinstance(value, (int, float)))


def _in_range(value: int, wanted: Any) -> bool:
    from pyarrow import types

    bits = wanted.bit_width
    low, high = (0, 1 << bits) if types.is_unsigned_integer(wanted) else (-(1 << (bits - 1)), 1 << (bits - 1))
    return bool(low <= value < high)
