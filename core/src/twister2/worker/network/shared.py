"""Arrays in memory that a transport sends from without a copy (``empty_shared``)."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from twister2.spec.batch import is_array

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2.spec.comm import Transport


class SharedArrays:
    """Which memory is shared: objects given to a call are copied out of it, since the receivers map it."""

    def __init__(self) -> None:
        self._ends: dict[int, int] = {}

    def empty(self, transports: Sequence[Transport], shape: int | Sequence[int], dtype: Any) -> Any:
        """An uninitialised array in memory of the first transport that has some, else an ordinary one."""
        import numpy

        count, kind = int(numpy.prod(shape)), numpy.dtype(dtype)
        for transport in transports:
            memory = transport.allocate(count * kind.itemsize)
            if memory is not None:
                return self.array(memory, kind, count).reshape(shape)
        return numpy.empty(shape, kind)

    def array(self, memory: memoryview, dtype: Any, count: int) -> Any:
        """A flat array over memory of a transport, known until its last view dies."""
        import numpy

        array = numpy.frombuffer(memory, dtype, count)
        start = _address(array)
        self._ends[start] = start + memory.nbytes
        weakref.finalize(array, self._ends.pop, start, None)
        return array

    def apart(self, value: Any) -> Any:
        """An object as it is given to a call: a copy where it is such an array, or a list or tuple that has some.
        Receivers map shared memory, and the giver may change its arrays once the call has returned.
        """
        if not self._ends:
            return value
        if is_array(value):
            return value.copy() if self._has(value) else value
        if type(value) in (list, tuple) and any(is_array(one) and self._has(one) for one in value):
            return type(value)(self.apart(one) for one in value)
        return value

    def _has(self, array: Any) -> bool:
        start = _address(array)
        return any(first <= start < end for first, end in self._ends.items())


def _address(array: Any) -> int:
    return int(array.__array_interface__["data"][0])
