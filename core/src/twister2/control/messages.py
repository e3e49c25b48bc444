"""Control messages: a kind, a body of plain data, and binary attachments. Encoded as JSON and raw frames; nothing on
this road is ever unpickled by the master.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from twister2.spec.errors import NetworkError
from twister2.spec.values import Value

LIMIT = 1 << 26
"""Longest JSON body accepted, in bytes."""


UNASKED = frozenset({"output", "log", "progress"})
"""What workers send as often as they like, without waiting for an answer: only so much of it may be on its way."""

TOLD = frozenset({"attempt", "checkpoint", "ended", "event", "output", "progress", "state", "worker"})
"""What a master tells clients that follow its job; all else that it says to them is an answer."""

OUTPUT_WINDOW = 4 << 20
"""About the bytes of it that a worker may have on its way to the master; then the program has to wait."""


def weight_of(kind: str, body: Mapping[str, Any]) -> int:
    """What a message counts while it is on its way: about the bytes that it takes in a queue, 0 when it is not one of
    :data:`UNASKED`.

    Receivers tell senders how much they have taken in, so both must come to the same number.
    """
    if kind not in UNASKED:
        return 0
    return 512 + len(body.get("text", "")) + 256 * len(body.get("counters", ()))


@attrs.frozen(eq=False, repr=False)
class Message(Value):
    """One control message.

    :ivar kind: what it is, e.g. ``"hello"``. :ivar body: JSON types. :ivar blobs: attachments (package chunks,
        results).
    """

    kind: str
    body: Mapping[str, Any]
    blobs: tuple[bytes, ...] = ()


def encode(kind: str, body: Mapping[str, Any], blobs: Sequence[bytes] = ()) -> list[bytes]:
    """The frames of a message."""
    return [json.dumps([kind, body], separators=(",", ":")).encode(), *blobs]


def decode(frames: Sequence[bytes]) -> Message:
    """The message of these frames.

    :raises NetworkError: the frames are no message (foreign, truncated, too long).
    """
    try:
        if not frames or len(frames[0]) > LIMIT:
            raise ValueError("no frame, or a body that is too long")
        kind, body = json.loads(frames[0])
        if not isinstance(kind, str) or not isinstance(body, dict):
            raise ValueError("not [kind, body]")
    except (ValueError, RecursionError) as error:
        raise NetworkError(
            "a control message could not be read",
            why=str(error),
            remedy="check that only processes of this job reach the job master's port",
        ) from error
    return Message(kind, body, tuple(bytes(frame) for frame in frames[1:]))
