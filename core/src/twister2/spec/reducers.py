"""Reductions by name, the same names everywhere: for Python values, and as numpy ufuncs for arrays."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from twister2.spec.errors import OperatorError

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

_OF_MPI: Final[Mapping[str, str]] = {
    "SUM": "sum",
    "PROD": "prod",
    "MIN": "min",
    "MAX": "max",
    "LAND": "and",
    "LOR": "or",
    "LXOR": "xor",
    "BAND": "band",
    "BOR": "bor",
    "BXOR": "bxor",
}


def name_of(op: Any) -> str:
    """The name of a reduction that has one (``operator.add`` and ``MPI.SUM`` of mpi4py are ``sum``), else the empty
    string.

    :raises OperatorError: an op of mpi4py that has none here.
    """
    if isinstance(op, str):
        return op
    try:
        return _NAME_OF.get(op) or _name_in_mpi(op)
    except TypeError:  # not hashable, as the ops of mpi4py
        return _name_in_mpi(op)


def _name_in_mpi(op: Any) -> str:
    mpi = sys.modules.get("mpi4py.MPI")  # who has such an op has imported it
    if not isinstance(op, getattr(mpi, "Op", ())):
        return ""
    for theirs, ours in _OF_MPI.items():
        if op == getattr(mpi, theirs):
            return ours
    raise OperatorError(
        f"a reduction was given an op of mpi4py that is none of {', '.join(_OF_MPI)}",
        why="others (MAXLOC, MINLOC, those of Op.Create) combine memory that belongs to MPI",
        remedy="give a function of two values that does the same; in place of MAXLOC and MINLOC reduce tuples "
        "(value, rank), as objects, with 'max' and 'min'",
    )


def name_on_arrays(op: Any) -> str:
    """As :func:`name_of`; ``numpy.add`` and the other ufuncs of :data:`UFUNCS` have names, too. On arrays these do the
    same; other values they would make arrays of (``numpy.add`` of two lists adds their items).
    """
    name = name_of(op)
    if name or type(op).__name__ != "ufunc":
        return name
    import numpy

    return next((name for name, ufunc in UFUNCS.items() if getattr(numpy, ufunc) is op), "")


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
