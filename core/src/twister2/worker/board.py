"""The step board: a page of shared memory where a user process notes its steps and its supervisor raises the abort
flag.

Entering a step is one write into a ring of entries, so a loop of collectives sends no message; the supervisor copies
the ring into its beats, and the master compares the boards of a group's members (:mod:`twister2.master.steps`).
"""

from __future__ import annotations

import mmap
import os
import struct
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from twister2.spec.network import Fingerprint

ENTRIES = 16
_ENTRY = struct.Struct("<IQBH")  # group, step, inside (at byte 12), length of the text
_ENTRY_BYTES = 248
_WAIT_AT = 8
_WAIT_BYTES = 240
_RING_AT = 256
SIZE = 8192


@attrs.frozen
class Entry:
    """One noted step.

    :ivar inside: whether the worker is still in it.
    """

    group: int
    step: int
    inside: bool
    kind: str
    shape: str
    line: str

    def to_json(self) -> list[Any]:
        return [self.group, self.step, self.inside, self.kind, self.shape, self.line]


class StepBoard:
    """Both ends' view of the page.

    Layout: byte 0 the abort flag, byte 1 whether the worker waits; at 8 what it waits for; at 256 the ring of entries
    (group, step, inside, length, text).
    """

    def __init__(self, descriptor: int) -> None:
        self._map = mmap.mmap(descriptor, SIZE)
        self._texts: dict[Fingerprint, bytes] = {}
        self._last: dict[int, int] = {}
        self._next = 0

    @staticmethod
    def create() -> int:
        """A descriptor of a fresh page; private to the job's processes, gone when the last of them closes it."""
        descriptor = os.memfd_create("twister2-steps")
        os.ftruncate(descriptor, SIZE)
        return descriptor

    @property
    def aborted(self) -> bool:
        return self._map[0] != 0

    def abort(self) -> None:
        self._map[0] = 1

    def enter(self, group: int, step: int, fingerprint: Fingerprint) -> None:
        text = self._texts.get(fingerprint)
        if text is None:
            text = "\x1f".join((fingerprint.kind, fingerprint.shape[:120], fingerprint.line[-100:])).encode()
            text = self._texts[fingerprint] = text[: _ENTRY_BYTES - _ENTRY.size]
        at = _RING_AT + self._next * _ENTRY_BYTES
        self._last[group] = self._next
        self._next = (self._next + 1) % ENTRIES
        _ENTRY.pack_into(self._map, at, 0, 0, 0, 0)  # the entry that is overwritten must not be read with the new text
        self._map[at + _ENTRY.size : at + _ENTRY.size + len(text)] = text
        _ENTRY.pack_into(self._map, at, group, step, 1, len(text))

    def leave(self, group: int, step: int) -> None:
        at = _RING_AT + self._last.get(group, 0) * _ENTRY_BYTES
        if _ENTRY.unpack_from(self._map, at)[:2] == (group, step):
            self._map[at + 12] = 0

    def wait_for(self, what: str) -> None:
        text = what.encode()[: _WAIT_BYTES - 2]
        self._map[_WAIT_AT : _WAIT_AT + 2] = len(text).to_bytes(2, "little")
        self._map[_WAIT_AT + 2 : _WAIT_AT + 2 + len(text)] = text

    @property
    def waits_for(self) -> str:
        n = int.from_bytes(self._map[_WAIT_AT : _WAIT_AT + 2], "little")
        return bytes(self._map[_WAIT_AT + 2 : _WAIT_AT + 2 + n]).decode(errors="replace")

    def entries(self) -> list[Entry]:
        """The noted steps, in no particular order, without one that is just being written."""
        found = []
        for index in range(ENTRIES):
            at = _RING_AT + index * _ENTRY_BYTES
            group, step, inside, n = _ENTRY.unpack_from(self._map, at)
            text = bytes(self._map[at + _ENTRY.size : at + _ENTRY.size + n]).decode(errors="replace")
            parts = text.split("\x1f")
            same = _ENTRY.unpack_from(self._map, at)[:2] == (group, step)
            if step and same and len(parts) == 3:
                found.append(Entry(group, step, bool(inside), *parts))
        return found

    def close(self) -> None:
        self._map.close()
