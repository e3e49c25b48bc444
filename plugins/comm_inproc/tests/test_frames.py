"""What is handed over by reference and what is copied."""

from __future__ import annotations

import numpy as np
import pytest

from twister2_comm_inproc.frames import take


def same_memory(view: memoryview, buffer: object) -> bool:
    return bool(np.shares_memory(np.frombuffer(view, np.uint8), np.frombuffer(buffer, np.uint8)))


def frozen_array() -> np.ndarray:
    array = np.arange(10)
    array.flags.writeable = False
    return array


@pytest.mark.parametrize("buffer", [b"abcd", memoryview(b"abcd")[1:], frozen_array(), frozen_array()[3:]])
def test_what_cannot_change_is_not_copied(buffer):
    view = take(buffer)
    assert view.readonly
    assert view.tobytes() == memoryview(buffer).tobytes()
    assert same_memory(view, buffer)


def read_only_view_of_writable_array() -> np.ndarray:
    view = np.arange(10)[2:]
    view.flags.writeable = False
    return view


@pytest.mark.parametrize(
    "buffer",
    [bytearray(b"abcd"), memoryview(bytearray(b"abcd")).toreadonly(), np.arange(4), read_only_view_of_writable_array()],
)
def test_what_somebody_could_change_is_copied(buffer):
    view = take(buffer)
    assert view.readonly
    assert view.tobytes() == memoryview(buffer).tobytes()
    assert not same_memory(view, buffer)


@pytest.mark.parametrize("buffer", [b"", bytearray(), np.empty((0, 3))])
def test_an_empty_frame_is_an_empty_view(buffer):
    assert take(buffer).nbytes == 0


def test_a_frame_with_gaps_is_refused():
    with pytest.raises(TypeError, match="contiguous"):
        take(np.arange(10)[::2])
