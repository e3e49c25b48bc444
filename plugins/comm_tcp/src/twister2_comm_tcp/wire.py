"""The format on the wire.

A message is one zmq message. Its first part holds a header, the length of every frame, and the small frames, each
padded to eight bytes so that numbers in them are aligned. Large frames follow as parts of their own, uncopied.
"""

from __future__ import annotations

import enum
import hashlib
import struct
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2.spec.batch import Buffer

MAGIC = b"T2t1"
_HEADER = struct.Struct("<4sB3xIIII8sQQQ")
_SEPARATE = 1 << 63
_INLINE_LIMIT = 1 << 20
_PADDING = (b"", b"\0" * 7, b"\0" * 6, b"\0" * 5, b"\0" * 4, b"\0" * 3, b"\0" * 2, b"\0")
_EMPTY = memoryview(b"")


class Kind(enum.IntEnum):
    """What a message is for."""

    DATA = 0
    ACK = 1
    """Tells how much was read, when there is nothing to send that could tell it."""
    SYNC = 2
    """Tells the number of the last DATA sent; the reader compares and answers with ACK."""
    BYE = 3
    """The sender closes; nothing follows."""


class MalformedError(Exception):
    """Not a message of this format, or a damaged one."""


@attrs.frozen
class Head:
    """The header.

    :ivar sequence: number of this DATA message on its way from ``rank`` to the reader, from 1; otherwise the number
        of the last one.
    :ivar acked_messages, acked_bytes: how much ``rank`` has read of what the reader sent it, in all.
    """

    kind: int
    attempt: int
    rank: int
    session: bytes
    sequence: int
    acked_messages: int
    acked_bytes: int
    n_frames: int = 0
    n_parts: int = 0


def session_id(job_id: str, session: str) -> bytes:
    """Eight bytes that are equal for the workers of one session of one job only."""
    return hashlib.blake2b(f"{job_id}\0{session}".encode(), digest_size=8).digest()


def flat(frame: Buffer) -> bytes | memoryview:
    """``frame`` as bytes or as a flat view, uncopied.

    :raises TypeError: not a contiguous buffer.
    """
    if type(frame) is bytes:
        return frame
    view = memoryview(frame)
    if view.nbytes == 0:
        return _EMPTY
    if not view.c_contiguous:
        raise TypeError("a frame must be a C-contiguous buffer")
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")


def pack(head: Head, frames: Sequence[bytes | memoryview], separate_from: int) -> list[bytes | memoryview]:
    """The parts of a message; frames of ``separate_from`` bytes and more become parts of their own."""
    lengths: list[int] = []
    inline: list[bytes | memoryview] = []
    separate: list[bytes | memoryview] = []
    room = _INLINE_LIMIT
    for frame in frames:
        size = len(frame)
        if size >= separate_from or size > room:
            lengths.append(size | _SEPARATE)
            separate.append(frame)
        else:
            room -= size
            lengths.append(size)
            inline += (frame, _PADDING[size & 7])
    header = _HEADER.pack(
        MAGIC,
        head.kind,
        head.attempt,
        head.rank,
        len(lengths),
        len(separate),
        head.session,
        head.sequence,
        head.acked_messages,
        head.acked_bytes,
    )
    return [b"".join((header, struct.pack(f"<{len(lengths)}Q", *lengths), *inline)), *separate]


def read_head(first: bytes) -> Head:
    """The header of a message's first part.

    :raises MalformedError: too short, or not of this format.
    """
    if len(first) < _HEADER.size or not first.startswith(MAGIC):
        raise MalformedError("not a message of this transport")
    _, kind, attempt, rank, n_frames, n_parts, session, sequence, messages, n_bytes = _HEADER.unpack_from(first)
    return Head(kind, attempt, rank, session, sequence, messages, n_bytes, n_frames, n_parts)


def unpack(head: Head, first: bytes, parts: Sequence[memoryview]) -> tuple[memoryview, ...]:
    """The frames of a message, as views of its parts.

    :raises MalformedError: truncated, or lengths that do not fit.
    """
    start = _HEADER.size + 8 * head.n_frames
    if start > len(first) or head.n_parts != len(parts):
        raise MalformedError(f"{len(first)} bytes and {len(parts)} parts do not hold {head.n_frames} frames")
    view = memoryview(first)
    rest = iter(parts)
    frames: list[memoryview] = []
    for length in struct.unpack_from(f"<{head.n_frames}Q", first, _HEADER.size):
        if length & _SEPARATE:
            part = next(rest, _EMPTY)
            if part.nbytes != length ^ _SEPARATE:
                raise MalformedError(f"a frame of {length ^ _SEPARATE} bytes came with {part.nbytes}")
            frames.append(part)
        else:
            frames.append(view[start : start + length])
            start += length + (-length & 7)
    if start != len(first):
        raise MalformedError(f"{len(first)} bytes came where the lengths say {start}")
    return tuple(frames)
