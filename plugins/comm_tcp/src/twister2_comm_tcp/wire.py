"""The format on the wire.

One zmq message carries one message or a batch of consecutive ones. Its first part holds a header, a table (per message
the number of its frames and their lengths, 64-bit words), and the small frames, each padded to eight bytes so that
numbers in them are aligned. Large frames follow as parts of their own, uncopied.
"""

from __future__ import annotations

import enum
import struct
import zlib
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from twister2.spec.transports import PADDING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twister2.spec.batch import Buffer

MAGIC = b"T2t2"
_FIELDS = struct.Struct("<4sB3xIIIII8sQQQ")
_CRC = struct.Struct("<I")
HEADER = struct.Struct(f"{_FIELDS.format}I")
"""The last field is the CRC-32 of all others and of the table, or of the words of a COLLECTIVE message."""
_FRONT = struct.Struct("<4sB3xIIIII8s")
_NUMBERS = struct.Struct("<QQQ")
_CALL_FIELDS = struct.Struct("<12xI12x8sQQQIQQQQ")
CALL = struct.Struct("<QQQQ")
"""After the header of a COLLECTIVE message: group, number of the call in it, what tells the call from others, and the
number of bytes that follow."""
LARGEST = 1 << 42
"""Frames that announce more bytes are nonsense, and end their connection before memory is asked for."""
SEPARATE = 1 << 63
"""In a length: the frame is a part of its own."""
INLINE_LIMIT = 1 << 20
"""Small frames beyond so many bytes in all become parts too."""
_EMPTY = memoryview(b"")
CHANGED = "its checksum is wrong"
_TABLES = [struct.Struct(f"<{words}Q") for words in range(64)]
"""Tables of the usual lengths, so that no format has to be read."""


class Kind(enum.IntEnum):
    """What a message is for."""

    DATA = 0
    ACK = 1
    """Tells how much was read, when there is nothing to send that could tell it."""
    SYNC = 2
    """Tells the number of the last DATA sent; the reader compares and answers with ACK."""
    BYE = 3
    """The sender closes; nothing follows."""
    COLLECTIVE = 4
    """A member's part in a collective call: words of :data:`CALL`, then data. Numbered together with DATA."""


class MalformedError(Exception):
    """Not a message of this format, or a damaged one."""


class Head(NamedTuple):
    """The header.

    :ivar sequence: number of the first of these DATA or COLLECTIVE messages on their way from ``rank`` to the reader,
        from 1; otherwise the number of the last one sent.
    :ivar acked_messages, acked_bytes: how much ``rank`` has read of what the reader sent it, in all.
    :ivar n_messages: messages in a batch. :ivar n_words: words of the table. :ivar n_parts: frames that are parts.
    """

    kind: int
    attempt: int
    rank: int
    session: bytes
    sequence: int
    acked_messages: int
    acked_bytes: int
    n_messages: int = 0
    n_words: int = 0
    n_parts: int = 0


head_of: Callable[[tuple[int, int, int, bytes, int, int, int, int, int, int]], Head] = partial(tuple.__new__, Head)
"""A header of all its fields: in half the time of a call of the class."""


class Batch:
    """Consecutive messages that become one zmq message.

    :ivar n_messages: how many are in it. :ivar size: bytes of its small frames, padding included.
    """

    __slots__ = ("_inline", "_separate", "_table", "n_messages", "size")

    def __init__(self) -> None:
        self.n_messages = self.size = 0
        self._table: list[int] = []
        self._inline: list[bytes | memoryview] = []
        self._separate: list[bytes | memoryview] = []

    def add(self, frames: Sequence[bytes | memoryview], separate_from: int) -> bool:
        """Append a message; frames of ``separate_from`` bytes and more become parts of their own.

        :returns: whether it has such frames. Small ones that are not bytes are kept as views until :meth:`pack`.
        """
        table, inline = self._table, self._inline
        table.append(len(frames))
        parts = len(self._separate)
        for frame in frames:
            size = len(frame)
            if size >= separate_from or size > INLINE_LIMIT - self.size:
                table.append(size | SEPARATE)
                self._separate.append(frame)
                continue
            table.append(size)
            inline.append(frame)
            rest = size & 7
            if rest:
                inline.append(PADDING[rest])
                size += 8 - rest
            self.size += size
        self.n_messages += 1
        return len(self._separate) > parts

    def pack(self, head: Head) -> list[bytes | memoryview]:
        """The parts of the zmq message; the counts in ``head`` are not looked at."""
        table = self._table
        words = len(table)
        kind, attempt, rank, session, sequence, messages, n_bytes, *_ = head
        front = _FIELDS.pack(
            MAGIC,
            kind,
            attempt,
            rank,
            self.n_messages,
            words,
            len(self._separate),
            session,
            sequence,
            messages,
            n_bytes,
        )
        numbers = _TABLES[words].pack(*table) if words < len(_TABLES) else struct.pack(f"<{words}Q", *table)
        crc = _CRC.pack(zlib.crc32(numbers, zlib.crc32(front)))
        return [b"".join((front, crc, numbers, *self._inline)), *self._separate]


def pack(head: Head, frames: Sequence[bytes | memoryview], separate_from: int) -> list[bytes | memoryview]:
    """The parts of a single message: DATA with its frames, or another kind, which has none."""
    batch = Batch()
    if head.kind == Kind.DATA:
        batch.add(frames, separate_from)
    return batch.pack(head)


def read_head(first: bytes | memoryview) -> Head:
    """The header of a message's first part.

    :raises MalformedError: too short, or not of this format.
    """
    if len(first) < HEADER.size or first[:4] != MAGIC:
        raise MalformedError("not a message of this transport")
    _, kind, attempt, rank, count, words, parts, session, sequence, messages, n_bytes = _FIELDS.unpack_from(first)
    return head_of((kind, attempt, rank, session, sequence, messages, n_bytes, count, words, parts))


class CallPacker:
    """Makes COLLECTIVE messages of one sender: only their numbers differ."""

    __slots__ = ("_crc", "_front")

    def __init__(self, attempt: int, rank: int, session: bytes) -> None:
        self._front = _FRONT.pack(MAGIC, Kind.COLLECTIVE, attempt, rank, 1, 0, 0, session)
        self._crc = zlib.crc32(self._front)

    def head(self, sequence: int, acked_messages: int, acked_bytes: int, words: bytes) -> bytes:
        """What stands before the data of a message with these words of :data:`CALL`."""
        numbers = _NUMBERS.pack(sequence, acked_messages, acked_bytes)
        crc = zlib.crc32(words, zlib.crc32(numbers, self._crc))
        return b"".join((self._front, numbers, _CRC.pack(crc), words))

    def pack(self, sequence: int, acked_messages: int, acked_bytes: int, words: bytes, data: Buffer) -> bytes:
        """A message of the words of :data:`CALL` and data."""
        return b"".join((self.head(sequence, acked_messages, acked_bytes, words), data))


def call_prefix(attempt: int) -> bytes:
    """What COLLECTIVE messages of an attempt begin with."""
    return _FRONT.pack(MAGIC, Kind.COLLECTIVE, attempt, 0, 0, 0, 0, b"")[:12]


def read_call(first: bytes | memoryview) -> tuple[int, bytes, int, int, int, int, int, int]:
    """Of a COLLECTIVE message: rank, session, sequence, acked messages and bytes, and the first three words of
    :data:`CALL`.

    :raises MalformedError: cut, longer than it was, or with changed words.
    """
    if len(first) < HEADER.size + CALL.size:
        raise MalformedError(f"{len(first)} bytes are no part in a collective call")
    rank, session, sequence, messages, n_bytes, crc, group, number, wanted, size = _CALL_FIELDS.unpack_from(first)
    if crc != crc_of(first, HEADER.size + CALL.size):
        raise MalformedError(CHANGED)
    if size != len(first) - HEADER.size - CALL.size:
        raise MalformedError(f"{len(first)} bytes came where {size} of data were sent")
    return rank, session, sequence, messages, n_bytes, group, number, wanted


def crc_of(first: bytes | memoryview, end: int) -> int:
    """The checksum of the header and the bytes behind it up to ``end``."""
    return zlib.crc32(first[HEADER.size : end], zlib.crc32(first[: _FIELDS.size]))


def unpack(head: Head, first: bytes | memoryview, parts: Sequence[memoryview]) -> list[tuple[memoryview, ...]]:
    """The messages, each with its frames, as views of the parts.

    :raises MalformedError: truncated or changed, or lengths that do not fit.
    """
    words = head.n_words
    start = HEADER.size + 8 * words
    end = len(first)
    if start > end or head.n_parts != len(parts):
        raise MalformedError(f"{end} bytes and {len(parts)} parts do not hold a table of {words} words")
    if crc_of(first, start) != _CRC.unpack_from(first, _FIELDS.size)[0]:
        raise MalformedError(CHANGED)
    if words < len(_TABLES):
        table = _TABLES[words].unpack_from(first, HEADER.size)
    else:
        table = struct.unpack_from(f"<{words}Q", first, HEADER.size)
    view = memoryview(first)
    used = at = 0
    messages: list[tuple[memoryview, ...]] = []
    for _ in range(head.n_messages):
        if at >= words:
            raise MalformedError(f"{head.n_messages} messages are more than its table of {words} words has")
        stop = at + 1 + table[at]
        frames: list[memoryview] = []
        for length in table[at + 1 : stop]:
            if length < SEPARATE:
                frames.append(view[start : start + length])
                start += length + (-length & 7)
                if start > end:
                    raise MalformedError(f"{end} bytes came where the lengths say more")
                continue
            part = parts[used] if used < len(parts) else _EMPTY
            if part.nbytes != length ^ SEPARATE:
                raise MalformedError(f"a frame of {length ^ SEPARATE} bytes came with {part.nbytes}")
            frames.append(part)
            used += 1
        at = stop
        messages.append(tuple(frames))
    if start != end or at != words or used != len(parts):
        raise MalformedError(f"{end} bytes and {len(parts)} parts came where the table says {start} and {used}")
    return messages
