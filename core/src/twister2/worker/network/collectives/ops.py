"""What reductions apply: numpy's functions by name, and functions of the user."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from twister2.spec.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Callable

Combine: TypeAlias = "Callable[[Any, Any, Any], None]"
"""``combine(left, right, out)``: elementwise for named ops; ``out`` may be either of them."""

UFUNCS: dict[str, Any] = {
    "sum": np.add,
    "prod": np.multiply,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.logical_and,
    "or": np.logical_or,
    "xor": np.logical_xor,
    "band": np.bitwise_and,
    "bor": np.bitwise_or,
    "bxor": np.bitwise_xor,
}


def combiner(op: Any, dtype: Any) -> Combine:
    """How two arrays of ``dtype`` are combined.

    :raises OperatorError: no such op, or it is not defined for the dtype.
    """
    if not isinstance(op, str):
        if callable(op):
            return _guarded(op)
        raise OperatorError(
            f"{op!r} is no op of a reduction",
            why="an op is a name or a function of two arrays",
            remedy=f"use one of {', '.join(UFUNCS)}, or f(left, right)",
        )
    ufunc = UFUNCS.get(op)
    if ufunc is None:
        raise OperatorError(
            f"there is no op '{op}'",
            why=f"the names are {', '.join(UFUNCS)}",
            remedy="use one of them, or pass a function f(left, right)",
        )
    probe = np.zeros(1, dtype)
    try:
        ufunc(probe, probe, out=probe)
    except TypeError as error:
        raise OperatorError(
            f"'{op}' is not defined for {dtype}",
            why=str(error),
            remedy="use another op, or convert the arrays on all members",
        ) from error

    def combine(left: Any, right: Any, out: Any) -> None:
        ufunc(left, right, out=out)

    return combine


def _guarded(function: Callable[[Any, Any], Any]) -> Combine:
    name = getattr(function, "__name__", type(function).__name__)

    def combine(left: Any, right: Any, out: Any) -> None:
        result = function(left, right)
        form = (getattr(result, "shape", None), getattr(result, "dtype", None))
        if form != (out.shape, out.dtype):
            shown = f"{form[1]} of shape {form[0]}" if form[1] is not None else f"a {type(result).__name__}"
            raise OperatorError(
                f"the function {name} of a reduction returned {shown}",
                why=f"it was given two arrays of {out.dtype} with shape {out.shape}, and must return such an array",
                remedy="return an array of the same dtype and shape",
            )
        if result is not out:
            np.copyto(out, result)

    return combine
