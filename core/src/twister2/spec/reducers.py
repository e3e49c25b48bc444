"""Reductions by name, the same names everywhere: for Python values, and as numpy ufuncs for arrays."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

Reducer: TypeAlias = Callable[[Any, Any], Any]


def _logical_and(left: Any, right: Any) -> bool:
    return bool(left) and bool(right)


def _logical_or(left: Any, right: Any) -> bool:
    return bool(left) or bool(right)


def _logical_xor(left: Any, right: Any) -> bool:
    return bool(left) != bool(right)


def _smaller(left: Any, right: Any) -> Any:
    return right if right < left else left


def _larger(left: Any, right: Any) -> Any:
    return right if right > left else left


FUNCTIONS: Final[Mapping[str, Reducer]] = {
    "sum": operator.add,
    "prod": operator.mul,
    "min": _smaller,
    "max": _larger,
    "and": _logical_and,
    "or": _logical_or,
    "xor": _logical_xor,
    "band": operator.and_,
    "bor": operator.or_,
    "bxor": operator.xor,
}
"""``and or xor`` are logical, ``band bor bxor`` bit by bit."""

UFUNCS: Final[Mapping[str, str]] = {
    "sum": "add",
    "prod": "multiply",
    "min": "minimum",
    "max": "maximum",
    "and": "logical_and",
    "or": "logical_or",
    "xor": "logical_xor",
    "band": "bitwise_and",
    "bor": "bitwise_or",
    "bxor": "bitwise_xor",
}
"""Name of the numpy function that does the same element by element."""

_NAME_OF: Final[Mapping[Any, str]] = {
    operator.add: "sum",
    operator.mul: "prod",
    min: "min",
    max: "max",
    operator.and_: "band",
    operator.or_: "bor",
    operator.xor: "bxor",
}


def name_of(op: Any) -> str:
    """The name of a reduction that has one (``operator.add`` is ``sum``), else the empty string."""
    if isinstance(op, str):
        return op
    try:
        return _NAME_OF.get(op, "")
    except TypeError:  # not hashable
        return ""


def combiner(op: str | Reducer) -> Reducer | None:
    """The function that combines two values of any form: arrays element by element, other values by themselves.

    :returns: None for an unknown name, or what cannot be called.
    """
    import numpy

    name = name_of(op)
    plain = FUNCTIONS.get(name)
    if plain is None:
        return op if callable(op) else None
    ufunc = getattr(numpy, UFUNCS[name])
    array_like = (numpy.ndarray, numpy.generic)

    def combine(left: Any, right: Any) -> Any:
        if isinstance(left, array_like) or isinstance(right, array_like):
            return ufunc(left, right)
        return plain(left, right)

    return combine
