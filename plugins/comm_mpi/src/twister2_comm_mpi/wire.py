"""The format of messages.

A message begins with a *head*: counts, lengths of all frames, and the small frames, padded to eight bytes each. Large
frames follow as *bodies*, cut into chunks. Heads, bodies and acknowledgements have tags of their own; MPI keeps the
order of messages between two ranks with the same tag.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from twister2.spec.batch import Buffer

HEAD, BODY, ACK, READY = 1, 2, 3, 4
ACK_FORMAT = struct.Struct("<QQ")
"""Messages and bytes read so far from the rank it is sent to."""

_HEAD = struct.Struct("<IIQQ")
_SEPARATE = 1 << 63
_INLINE_LIMIT = 1 << 20


@attrs.frozen
class Head:
    """A parsed head.

    :ivar acked: messages and bytes that the sender has read from the receiver so far.
    :ivar frames: the small frames, None where a body follows; :ivar bodies: lengths of the bodies.
    """

    acked: tuple[int, int]
    frames: tuple[memoryview | None, ...]
    bodies: tuple[int, ...]

    def complete(self, bodies: Sequence[memoryview]) -> tuple[memoryview, ...]:
        """All frames, once the bodies are there."""
        rest = iter(bodies)
        return tuple(next(rest) if frame is None else frame for frame in self.frames)


def pack(frames: Sequence[memoryview], acked: tuple[int, int], separate_from: int) -> tuple[bytes, list[memoryview]]:
    """Head and bodies of a message; frames of ``separate_from`` bytes and more become bodies."""
    lengths: list[int] = []
    inline: list[Buffer] = []
    bodies: list[memoryview] = []
    room = _INLINE_LIMIT
    for frame in frames:
        size = frame.nbytes
        if size >= separate_from or size > room:
            lengths.append(size | _SEPARATE)
            bodies.append(frame)
        else:
            room -= size
            lengths.append(size)
            inline += (frame, bytes(-size & 7))
    counts = _HEAD.pack(len(lengths), len(bodies), *acked)
    return b"".join((counts, struct.pack(f"<{len(lengths)}Q", *lengths), *inline)), bodies


def unpack(head: memoryview) -> Head:
    """Parse a head; its frames are views of it.

    :raises ValueError: truncated, or lengths that do not fit.
    """
    if len(head) < _HEAD.size:
        raise ValueError(f"a head of {len(head)} bytes")
    n_frames, n_bodies, messages, n_bytes = _HEAD.unpack_from(head)
    start = _HEAD.size + 8 * n_frames
    if start > len(head):
        raise ValueError(f"{len(head)} bytes do not hold the lengths of {n_frames} frames")
    frames: list[memoryview | None] = []
    bodies: list[int] = []
    for length in struct.unpack_from(f"<{n_frames}Q", head, _HEAD.size):
        if length & _SEPARATE:
            frames.append(None)
            bodies.append(length ^ _SEPARATE)
        else:
            frames.append(head[start : start + length])
            start += length + (-length & 7)
    if start != len(head) or len(bodies) != n_bodies:
        raise ValueError(f"{len(head)} bytes came where the lengths say {start}")
    return Head((messages, n_bytes), tuple(frames), tuple(bodies))


def chunks(view: memoryview, size: int) -> Iterator[memoryview]:
    """Pieces of at most ``size`` bytes, in order; none for an empty view."""
    for start in range(0, view.nbytes, size):
        yield view[start : start + size]
