"""Buffer arguments in the manner of mpi4py: an array, ``[array, counts]``, ``None`` or :data:`IN_PLACE`."""

from __future__ import annotations

import contextlib
import enum
import operator
from typing import Any, Final, TypeAlias

from twister2.spec.errors import OperatorError


class _InPlace(enum.Enum):
    """Its only member stands for the array that is already in the other argument."""

    IN_PLACE = "in place"

    def __repr__(self) -> str:
        return "IN_PLACE"


IN_PLACE: Final = _InPlace.IN_PLACE
"""As the first argument of a reduction: what is sent lies in the second one."""

Buffer: TypeAlias = Any
"""A C-contiguous numpy array, or a list ``[array, counts]`` with the number of elements for (or from) each member."""

Counts: TypeAlias = "tuple[int, ...] | None"


def split(buffer: Buffer) -> tuple[Any, Counts]:
    """The array and its counts.

    :raises OperatorError: a list that is not ``[array, counts]``.
    """
    if type(buffer) is not list and type(buffer) is not tuple:
        return (None if buffer is IN_PLACE else buffer), None
    if len(buffer) == 2 and hasattr(buffer[0], "dtype"):
        with contextlib.suppress(TypeError):
            return buffer[0], tuple(operator.index(count) for count in buffer[1])
    raise OperatorError(
        "a buffer is an array or [array, counts]",
        why=f"got {type(buffer).__name__} of {len(buffer)}: {[type(part).__name__ for part in buffer]}",
        remedy="give a numpy array, or a list of an array and one number of elements for each member; for other values "
        "use the lower-case call",
    )
