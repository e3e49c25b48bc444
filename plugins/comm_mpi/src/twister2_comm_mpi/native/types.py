"""Which MPI datatype and which reduction stand for a numpy dtype and the name of an op.

Only what gives numpy's answer is taken. The library's own minimum loses NaN, depending on the order of its operands;
so that of floating-point numbers is computed by numpy, in the order of the ranks.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from ..world import MPI

if TYPE_CHECKING:
    from collections.abc import Callable

_LOGICAL = {"and": MPI.LAND, "or": MPI.LOR, "xor": MPI.LXOR}
_BITWISE = {"band": MPI.BAND, "bor": MPI.BOR, "bxor": MPI.BXOR}
_ARITHMETIC = {"sum": MPI.SUM, "prod": MPI.PROD}
_OPS: dict[str, dict[str, MPI.Op]] = {
    # numpy adds and multiplies truth values as it ors and ands them
    "b": {"sum": MPI.LOR, "prod": MPI.LAND, "min": MPI.MIN, "max": MPI.MAX, **_LOGICAL, **_BITWISE},
    "i": {**_ARITHMETIC, "min": MPI.MIN, "max": MPI.MAX, **_LOGICAL, **_BITWISE},
    "u": {**_ARITHMETIC, "min": MPI.MIN, "max": MPI.MAX, **_LOGICAL, **_BITWISE},
    "f": _ARITHMETIC,
    # products: a compiler may fuse their sums, which makes the bits depend on the order of the factors
    "c": {"sum": MPI.SUM},
}
_BY_NUMPY = {("min", "f"): np.minimum, ("min", "d"): np.minimum, ("max", "f"): np.maximum, ("max", "d"): np.maximum}

_UNKNOWN: tuple[MPI.Datatype | None, bool] = (None, False)
_numbers: dict[Any, tuple[MPI.Datatype | None, bool]] = {}
_moved: dict[Any, tuple[MPI.Datatype, bool]] = {}
_reductions: dict[tuple[str, Any], MPI.Op | None] = {}


def number(dtype: Any) -> MPI.Datatype | None:
    """The datatype to compute with; None when MPI has none."""
    found, _ = _numbers.get(dtype, _UNKNOWN)
    if found is None and dtype not in _numbers:
        if dtype.kind == "b":
            found = MPI.UINT8_T
        elif dtype.isnative and (dtype.kind in "iu" or dtype.char in "fdgFD"):
            try:
                found = MPI.Datatype.fromcode(dtype.char)
            except (ValueError, MPI.Exception):
                found = None
        if found is not None and (found == MPI.DATATYPE_NULL or found.Get_size() != dtype.itemsize):
            found = None
        _numbers[dtype] = (found, True)
    return found


def reduction(op: Any, dtype: Any) -> MPI.Op | None:
    """The reduction ``op`` of elements of ``dtype``; None when MPI has none that gives numpy's answer."""
    if not isinstance(op, str):
        return None
    key = (op, dtype)
    try:
        return _reductions[key]
    except KeyError:
        found = _reductions[key] = _reduction(op, dtype)
        return found


def _reduction(op: str, dtype: Any) -> MPI.Op | None:
    if number(dtype) is None:
        return None
    ufunc = _BY_NUMPY.get((op, dtype.char))
    if ufunc is not None:
        # not commutative for MPI: 0.0 and -0.0 are equal, and all ranks shall get the same of them
        return MPI.Op.Create(functools.partial(_combine, ufunc, dtype), commute=False)
    return _OPS.get(dtype.kind, {}).get(op)


def _combine(ufunc: Callable[..., Any], dtype: Any, left: Any, right: Any, datatype: MPI.Datatype) -> None:
    into = np.frombuffer(right, dtype)
    ufunc(np.frombuffer(left, dtype), into, out=into)


def moved(dtype: Any) -> tuple[MPI.Datatype, bool]:
    """The datatype to move elements with, and whether arrays of it have the buffer interface."""
    try:
        return _moved[dtype]
    except KeyError:
        known = number(dtype)
        found = _moved[dtype] = (_bytes(dtype.itemsize), False) if known is None else (known, True)
        return found


@functools.cache
def _bytes(itemsize: int) -> MPI.Datatype:
    return MPI.BYTE.Create_contiguous(itemsize).Commit()


def part(array: Any, count: Any = None) -> tuple[Any, Any, MPI.Datatype]:
    """What mpi4py takes for an array: buffer, count (all elements, one count per member), datatype."""
    datatype, buffered = moved(array.dtype)
    if not buffered:
        array = array.reshape(-1).view(np.uint8)
        return array, array.size // datatype.size if count is None else count, datatype
    return array, array.size if count is None else count, datatype
