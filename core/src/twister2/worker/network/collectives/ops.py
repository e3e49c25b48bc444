"""What reductions apply: numpy's functions by name, and functions of the user."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from twister2.spec.errors import OperatorError, Twister2Error
from twister2.spec.reducers import UFUNCS, name_of
from twister2.spec.user_code import name_of_function, not_combined
from twister2.worker.network.userops import running

if TYPE_CHECKING:
    from collections.abc import Callable

Combine: TypeAlias = "Callable[[Any, Any, Any], None]"
"""``combine(left, right, out)``: elementwise for named ops; ``out`` may be either of them."""


def combiner(op: Any, dtype: Any, dims: tuple[int, ...] | None = None) -> Combine:
    """How two arrays of ``dtype`` are combined.

    :param dims: the shape in which a function gets them: algorithms have them flat.
    :raises OperatorError: no such op, or it is not defined for the dtype.
    """
    name = UFUNCS.get(name_of(op))
    if name is None:
        if callable(op):
            return _guarded(op, dims)
        raise OperatorError(
            f"there is no op {op!r} of a reduction",
            why=f"an op is a function of two arrays or one of {', '.join(UFUNCS)}",
            remedy="use one of these names, or pass a function f(left, right)",
        )
    ufunc = getattr(np, name)
    if dtype.kind in "USV":
        raise OperatorError(
            f"'{op}' is not defined for {dtype}",
            why="numpy has no function for text, bytes and structures that keeps the length of their items",
            remedy="give a function f(left, right) of two arrays, or reduce them as objects",
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


def _guarded(function: Callable[[Any, Any], Any], dims: tuple[int, ...] | None) -> Combine:
    name = name_of_function(function)

    def combine(left: Any, right: Any, out: Any) -> None:
        wanted = dims if dims is not None and prod(dims) == out.size else out.shape
        shaped = [read_only(array.reshape(wanted)) for array in (left, right)]
        try:
            with running(name):
                result = function(*shaped)
        except Twister2Error:
            raise
        except Exception as error:
            raise not_combined("a reduction", function, shaped[0], shaped[1], error) from error
        form = (getattr(result, "shape", None), getattr(result, "dtype", None))
        if form != (wanted, out.dtype):
            shown = f"{form[1]} of shape {form[0]}" if form[1] is not None else f"a {type(result).__name__}"
            raise OperatorError(
                f"the function {name} of a reduction returned {shown}",
                why=f"it was given two arrays of {out.dtype} with shape {wanted}, and must return such an array",
                remedy="return an array of the same dtype and shape",
            )
        np.copyto(out, result.reshape(out.shape))

    return combine


def read_only(array: Any) -> Any:
    """A view that cannot be written through: the array may be the caller's own, or lie in a transport's memory."""
    view = array.view()
    view.flags.writeable = False
    return view
