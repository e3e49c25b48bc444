"""Reducers of operators: by the names that are the same everywhere, or any associative function of two values."""

from __future__ import annotations

from typing import Any, Final

from twister2.spec.reducers import FUNCTIONS, UFUNCS, Reducer, combiner, name_of
from twister2.spec.tracebacks import short
from twister2_net.problems import wrong_option

NAMES: Final = tuple(FUNCTIONS)


def reducer_for(reducer: Any, label: str) -> Reducer:
    """The function that combines two Python values.

    :raises OperatorError: an unknown name, or nothing that can be called.
    """
    found = FUNCTIONS.get(name_of(reducer))
    if found is not None:
        return found
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
    name = UFUNCS.get(name_of(reducer))
    return None if name is None else getattr(numpy, name)


def combiner_for(reducer: Any, label: str) -> Reducer:
    """The function that combines two values of either form: arrays by ufunc, everything else by the reducer."""
    plain = reducer_for(reducer, label)
    return combiner(reducer) or plain


__all__ = ["NAMES", "Reducer", "combiner_for", "name_of", "reducer_for", "ufunc_for"]
