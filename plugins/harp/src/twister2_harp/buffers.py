"""Buffer arguments in the manner of mpi4py: an array, ``[array, counts]``, ``None`` or :data:`IN_PLACE`.

What mpi4py's users put into the list besides is taken where it says what is done anyway: displacements of parts that
lie one behind the other, and the datatype of the array.
"""

from __future__ import annotations

import enum
import operator
import sys
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy

from twister2.spec.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Sequence


class _InPlace(enum.Enum):
    """Its only member stands for the array that is already in the other argument."""

    IN_PLACE = "in place"

    def __repr__(self) -> str:
        return "IN_PLACE"


IN_PLACE: Final = _InPlace.IN_PLACE
"""As the first argument of a reduction: what is sent lies in the second one. ``MPI.IN_PLACE`` of mpi4py is the same."""

Buffer: TypeAlias = Any
"""A C-contiguous numpy array, or a list ``[array, counts]`` with the number of elements for (or from) each member."""

Counts: TypeAlias = "tuple[int, ...] | None"


def split(buffer: Buffer) -> tuple[Any, Counts]:
    """The array and its counts.

    :raises OperatorError: a list that is not ``[array, counts]``; a masked array.
    """
    kind = type(buffer)
    if kind is numpy.ndarray or buffer is None:
        return buffer, None
    if kind is list or kind is tuple:
        return _listed(buffer)
    if buffer is IN_PLACE or _is_of_mpi(buffer, "InPlaceType"):
        return None, None
    return _plain(buffer), None


def _listed(buffer: Sequence[Any]) -> tuple[Any, Counts]:
    array, *rest = buffer or (None,)
    if not hasattr(array, "dtype"):
        raise _wrong(buffer)
    if rest and _is_of_mpi(rest[-1], "Datatype"):
        _check_datatype(array, rest.pop())
        if not rest:
            return _plain(array), None
    if len(rest) == 1 and _is_pair(rest[0]):
        rest = [*rest[0]]
    if len(rest) == 2 and rest[1] is None:
        rest.pop()
    if not 1 <= len(rest) <= 2:
        raise _wrong(buffer)
    try:
        counts, *displacements = (tuple(map(operator.index, one)) for one in rest)
    except (TypeError, ValueError):
        raise _wrong(buffer) from None
    for starts in displacements:
        _check_displacements(counts, starts)
    return _plain(array), counts


def _is_pair(value: Any) -> bool:
    """Whether it is ``(counts, displacements)``."""
    return type(value) in (list, tuple) and len(value) == 2 and all(hasattr(one, "__len__") for one in value)


def _is_of_mpi(value: Any, name: str) -> bool:
    """Whether a value is of a class of mpi4py, which is not imported for that."""
    return isinstance(value, getattr(sys.modules.get("mpi4py.MPI"), name, ()))


def _plain(array: Any) -> Any:
    """Subclasses of numpy's array as the array that they are: a ``numpy.matrix`` cannot be cut into its elements."""
    if not isinstance(array, numpy.ndarray):
        return array  # told with the call
    if isinstance(array, numpy.ma.MaskedArray):
        raise OperatorError(
            "a buffer is a masked array",
            why="memory is moved as it is: the mask would be lost, and what it hides would count",
            remedy="give array.filled(value); or use the lower-case call, which takes masked arrays as objects",
        )
    return numpy.asarray(array)


def _check_datatype(array: Any, datatype: Any) -> None:
    name = getattr(datatype, "typestr", "")
    try:
        fits = numpy.dtype(name) == array.dtype
    except TypeError:
        fits = False
    if not fits:
        raise OperatorError(
            f"a buffer is an array of {array.dtype} with a datatype of MPI that is {name or 'derived'!r}",
            why="the dtype of the array says what is moved",
            remedy="leave the datatype out: the array alone, or [array, counts]; convert by array.astype",
        )


def _check_displacements(counts: Sequence[int], given: Sequence[int]) -> None:
    starts = [*accumulate(counts, initial=0)][:-1]
    if len(given) != len(counts) or any(n and at != start for n, at, start in zip(counts, given, starts, strict=True)):
        raise OperatorError(
            f"a buffer has displacements {[*given]}, with counts {[*counts]}",
            why=f"here parts lie one behind the other, by rank, without gaps: at {starts}",
            remedy="leave the displacements out, and copy the parts from or to where they should be",
        )


def _wrong(buffer: Sequence[Any]) -> OperatorError:
    return OperatorError(
        "a buffer is an array or [array, counts]",
        why=f"got {type(buffer).__name__} of {len(buffer)}: {[type(part).__name__ for part in buffer]}",
        remedy="give a numpy array, or a list of an array and one number of elements for each member; for other values "
        "use the lower-case call",
    )
