"""The header in front of every message, and the checks that tell a good message from a damaged or foreign one.

The first frame is ``header | description of the step | description of the value | small buffers``; buffers of more than
:data:`INLINE` bytes follow as frames of their own. The description of the step travels with the first message of a
step between two workers, so that a mismatch can name both lines.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Final

from twister2.spec.errors import NetworkError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2.spec.batch import Buffer

MAGIC: Final = b"T2N"
VERSION: Final = 1
INLINE: Final = 4096
"""Values of at most so many bytes travel in the first frame."""

HEADER: Final = struct.Struct("<3sBBBHIIQQIIIQQIIQ")
_CRC: Final = struct.Struct("<I")
_FRONT: Final = struct.Struct(HEADER.format + "I")
"""Header and checksum."""
SIZE: Final = _FRONT.size


class Message:
    """A message that came in, checked but not decoded."""

    __slots__ = (
        "attempt",
        "buffers",
        "edge",
        "encoding",
        "fingerprint",
        "group",
        "head",
        "kind",
        "n_records",
        "peer",
        "sequence",
        "size",
        "source",
        "step",
        "story",
        "target",
    )

    peer: int
    kind: int
    encoding: int
    attempt: int
    group: int
    step: int
    fingerprint: int
    edge: int
    source: int
    target: int
    sequence: int
    n_records: int
    story: bytes
    head: bytes
    buffers: Sequence[memoryview]
    size: int


def pack(
    fields: tuple[int, int, int, int, int, int, int, int, int, int, int],
    story: bytes,
    head: bytes,
    buffers: Sequence[Buffer],
    size: int,
) -> list[Buffer]:
    """The frames of one message.

    :param fields: kind, encoding, attempt, group, step, fingerprint, edge, source, target, sequence, n_records.
    :param story: description of the step or empty. :param head: description of the value.
    :param buffers: the value's bytes. :param size: their sum.
    """
    kind, encoding, attempt, group, step, fingerprint, edge, source, target, sequence, n_records = fields
    inline = size <= INLINE and len(buffers) <= 1
    front = HEADER.pack(
        MAGIC,
        VERSION,
        kind,
        encoding,
        0 if inline else len(buffers),
        attempt,
        group,
        step,
        fingerprint,
        edge,
        source,
        target,
        sequence,
        n_records,
        len(story),
        len(head),
        size,
    )
    if inline:
        rest = b"".join((story, head, *buffers))
        return [b"".join((front, _CRC.pack(zlib.crc32(rest, zlib.crc32(front))), rest))]
    rest = story + head
    return [b"".join((front, _CRC.pack(zlib.crc32(rest, zlib.crc32(front))), rest)), *buffers]


def unpack(peer: int, frames: Sequence[memoryview]) -> Message:
    """Check and read a message.

    :raises NetworkError: it is truncated, corrupted, of another version, or nothing of this system.
    """
    if not frames or frames[0].nbytes < SIZE:
        raise _bad(peer, "it is shorter than a header")
    front = frames[0]
    message = Message()
    (
        magic,
        version,
        message.kind,
        message.encoding,
        n_buffers,
        message.attempt,
        message.group,
        message.step,
        message.fingerprint,
        message.edge,
        message.source,
        message.target,
        message.sequence,
        message.n_records,
        n_story,
        n_head,
        size,
        crc,
    ) = _FRONT.unpack_from(front)
    if magic != MAGIC:
        raise _bad(peer, f"it begins with {bytes(front[:4])!r}, which is not this system's mark")
    if version != VERSION:
        raise _bad(peer, f"its header has version {version}, this worker speaks {VERSION}")
    if zlib.crc32(front[SIZE:], zlib.crc32(front[: HEADER.size])) != crc:
        raise _bad(peer, "its checksum is wrong: it is corrupted or truncated")
    start = SIZE + n_story + n_head
    message.peer = peer
    message.size = size
    message.story = bytes(front[SIZE : SIZE + n_story]) if n_story else b""
    message.head = bytes(front[SIZE + n_story : start]) if n_head else b""
    if len(frames) != 1 + n_buffers:
        raise _bad(peer, f"it has {len(frames) - 1} data frames instead of {n_buffers}")
    if n_buffers:
        message.buffers = frames[1:]
        came = sum(part.nbytes for part in message.buffers)
    else:
        inline = front[start:]
        message.buffers = (inline,)
        came = inline.nbytes
    if came != size:
        raise _bad(peer, f"{came} bytes came instead of {size}: it is truncated")
    return message


def _bad(peer: int, why: str) -> NetworkError:
    return NetworkError(
        f"a message from worker {peer} cannot be read",
        why=why,
        remedy="check that all workers run the same version and that nothing else talks to their ports",
        details={"peer": peer},
    )
