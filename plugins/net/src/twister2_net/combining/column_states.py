"""The states of named folds of whole columns of numbers, made by numpy: what the folds would have made one by one."""

from __future__ import annotations

from typing import Any

_LARGEST = 1 << 62


def numbers_of(column: Any) -> Any:
    """The numbers of a column of numpy or Arrow without its nulls; None for one that has others."""
    if hasattr(column, "drop_null"):
        from pyarrow import types

        if not (types.is_integer(column.type) or types.is_floating(column.type)):
            return None
        return column.drop_null().to_numpy()
    plain = column.ndim == 1 and column.dtype.kind in "iuf" and column.dtype.itemsize <= 8
    return column if plain else None


def state_of(name: str, numbers: Any) -> Any:
    """The state of a fold, by its name, of an array of numbers."""
    import numpy

    count = len(numbers)
    if name == "count":
        return count
    if name in ("variance", "std"):
        if not count:
            return 0, 0.0, 0.0
        wide = numbers.astype(numpy.float64)
        mean = float(wide.mean())
        wide -= mean
        return count, mean, float(numpy.dot(wide, wide))
    if name in ("min", "max"):
        if numbers.dtype.kind == "f":
            numbers = numbers[numbers == numbers]  # NaN is left out
        return getattr(numbers, name)().item() if len(numbers) else None
    total = _sum(numbers) if count else None
    return (total, count) if name == "mean" and count else total


def _sum(numbers: Any) -> Any:
    import numpy

    if numbers.dtype.kind == "f":
        return float(numbers.sum(dtype=numpy.float64))
    most = max(abs(int(numbers.min())), abs(int(numbers.max())))
    return int(numbers.sum()) if most * len(numbers) < _LARGEST else sum(numbers.tolist())
