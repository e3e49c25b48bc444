"""Reducers: by name for numbers and arrays, or any associative and commutative function of two values."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Final

from twister2_net.problems import short, wrong_option

Reducer = Callable[[Any, Any], Any]

NAMES: Final = ("sum", "prod", "min", "max", "and", "or")
_PYTHON: Final[dict[str, Reducer]] = {
    "sum": operator.add,
    "prod": operator.mul,
    "min": lambda a, b: b if b < a else a,
    "max": lambda a, b: b if b > a else a,
    "and": operator.and_,
    "or": operator.or_,
}
_UFUNCS: Final = {
    "sum": "add",
    "prod": "multiply",
    "min": "minimum",
    "max": "maximum",
    "and": "bitwise_and",
    "or": "bitwise_or",
}
_NAME_OF: Final[dict[Any, str]] = {operator.add: "sum", operator.mul: "prod", min: "min", max: "max"}


def name_of(reducer: Any) -> str:
    """The name of a reducer that has one (``operator.add`` is ``sum``), else the empty string."""
    if isinstance(reducer, str):
        return reducer
    try:
        return _NAME_OF.get(reducer, "")
    except TypeError:  # not hashable
        return ""


def reducer_for(reducer: Any, label: str) -> Reducer:
    """The function that combines two Python values.

    :raises OperatorError: an unknown name, or nothing that can be called.
    """
    name = name_of(reducer)
    if name in _PYTHON:
        return _PYTHON[name]
    if callable(reducer):
        return reducer  # type: ignore[no-any-return]
    raise wrong_option(
        label, "reducer", f"{short(reducer)} is neither a function nor one of {', '.join(NAMES)}",
        "give a function of two values, or one of these names",
    )  # fmt: skip


def ufunc_for(reducer: Any) -> Any:
    """The numpy ufunc of a named reducer, a ufunc itself, or None for other functions."""
    import numpy

    if isinstance(reducer, numpy.ufunc):
        return reducer
    name = _UFUNCS.get(name_of(reducer))
    return None if name is None else getattr(numpy, name)


def combiner_for(reducer: Any, label: str) -> Reducer:
    """The function that combines two values of either form: arrays by ufunc, everything else by the reducer."""
    plain = reducer_for(reducer, label)
    ufunc = ufunc_for(reducer)
    if ufunc is None:
        return plain
    import numpy

    ndarray = numpy.ndarray
    generic = numpy.generic

    def combine(a: Any, b: Any) -> Any:
        if isinstance(a, (ndarray, generic)) or isinstance(b, (ndarray, generic)):
            return ufunc(a, b)
        return plain(a, b)

    return combine
