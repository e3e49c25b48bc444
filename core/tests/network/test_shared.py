"""Arrays in shared memory are copied when they are given to a call as objects."""

from __future__ import annotations

import gc

import numpy as np

from twister2.worker.network.shared import SharedArrays


def test_only_arrays_in_shared_memory_are_copied() -> None:
    shared = SharedArrays()
    array = shared.array(memoryview(bytearray(80)), np.dtype("float64"), 10).reshape(2, 5)
    array[:] = 1
    other = np.ones(3)
    assert shared.apart(other) is other
    assert shared.apart("text") == "text"
    given = shared.apart([array[1], other])
    assert given[1] is other
    array[:] = 2
    assert given[0].tolist() == [1.0] * 5
    del array
    gc.collect()
    assert not shared._ends
