"""The methods of plain values, shared by all of them.

attrs writes and compiles methods of its own for every class. Of nearly a hundred classes that a submission defines,
each compared or shown now and then at most, that was a good part of the time to the first result. So a class of values
is declared as

    @attrs.frozen(eq=False, repr=False)
    class Place(Value): ...

and takes equality, hash and text from here: they do what those of attrs do, in a loop over the fields in place of code
of their own. A class whose objects are compared for every record or message leaves them to attrs.
"""

from __future__ import annotations

from reprlib import recursive_repr
from typing import Any, cast

import attrs


class Value:
    """Base of frozen attrs classes that are declared with ``eq=False, repr=False``."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return all(_compared(self, field) == _compared(other, field) for field in _fields(self) if field.eq)

    def __hash__(self) -> int:
        values: list[Any] = [self.__class__]
        for field in _fields(self):
            if field.hash or (field.hash is None and field.eq):
                values.append(_compared(self, field))
        return hash(tuple(values))

    @recursive_repr()
    def __repr__(self) -> str:
        shown = []
        for field in _fields(self):
            if field.repr:
                value = getattr(self, field.name, attrs.NOTHING)
                shown.append(f"{field.name}={field.repr(value) if callable(field.repr) else repr(value)}")
        return f"{self.__class__.__qualname__.rsplit('>.', 1)[-1]}({', '.join(shown)})"


def _compared(value: object, field: attrs.Attribute[Any]) -> Any:
    """What of a field counts."""
    key = field.eq_key  # type: ignore[attr-defined]
    return getattr(value, field.name) if key is None else key(getattr(value, field.name))


def _fields(value: Value) -> tuple[attrs.Attribute[Any], ...]:
    return tuple(attrs.fields(cast("type[attrs.AttrsInstance]", value.__class__)))
