"""The step board: a page of shared memory where a user process notes its steps and its supervisor raises the abort
flag.

A program that calls the same collectives in a loop enters them at regular distances. So an entry covers every
``stride``-th step from ``first`` to ``last``, and entering the next one of them is one write of eight bytes. Loops send
no message: the supervisor copies the ring of entries into its beats, and the master compares the boards of a group's
members (:mod:`twister2.master.steps`).
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from twister2.spec.network import Fingerprint

OTHERS = "for the other members"
"""End of what a worker waits for when it does not know for whom; the master, who has all boards, knows."""

LIMITED = " s at most)"
"""End of what a worker waits for when the wait has a deadline: then it goes on by itself."""

ENTRIES = 16
_ENTRY = struct.Struct("<QQQIH")  # first, last * 2 + inside, stride, group, length of the text
_ENTRY_BYTES = 248
_WORDS = _ENTRY_BYTES // 8
_LAST, _STRIDE = 1, 2
"""Words of an entry that change alone."""
_WAIT_AT = 8
_WAIT_BYTES = 240
TEXT_BYTES = _WAIT_BYTES - 2
"""Of what a worker waits for; the rest is cut."""
_RING_AT = 256
_WAYS_AT = _RING_AT + ENTRIES * _ENTRY_BYTES
_WAYS_BYTES = 3072
SIZE = 8192
_KIND_BYTES, _SHAPE_BYTES, _LINE_BYTES = 30, 100, 86
"""Of an entry's text, which with two separators fills it."""


def _cut(text: str, n_bytes: int) -> bytes:
    """A text in at most so many bytes, without separators: its beginning and a hash (negative: its end)."""
    data = text.replace("\x1f", " ").encode("utf-8", "replace")
    if len(data) <= abs(n_bytes):
        return data
    if n_bytes < 0:
        return data[n_bytes:].decode("utf-8", "ignore").encode()
    tail = b"~" + hashlib.blake2b(data, digest_size=4).hexdigest().encode()  # what differs may lie behind the cut
    return data[: n_bytes - len(tail)].decode("utf-8", "ignore").encode() + tail


@attrs.frozen
class Entry:
    """One noted call site: every ``stride``-th step from ``first`` to ``last``.

    :ivar inside: whether the worker is still in the last one.
    """

    group: int
    first: int
    last: int
    stride: int
    inside: bool
    kind: str
    shape: str
    line: str

    def to_json(self) -> list[Any]:
        return [self.group, self.last, self.inside, self.kind, self.shape, self.line, self.first, self.stride]


class _Noted:
    """The writer's own view of an entry."""

    __slots__ = ("at", "fingerprint", "group", "last", "stride")

    def __init__(self, at: int, group: int, step: int, fingerprint: Fingerprint) -> None:
        self.at, self.group, self.last, self.fingerprint = at, group, step, fingerprint
        self.stride = 0


class StepBoard:
    """Both ends' view of the page.

    Layout: byte 0 the abort flag, byte 1 whether the worker waits; at 8 what it waits for; at 256 the ring of entries;
    behind it what lies in its ways to others.
    """

    def __init__(self, descriptor: int) -> None:
        self._map = mmap.mmap(descriptor, SIZE)
        self._bytes = memoryview(self._map)
        self._words = self._bytes.cast("Q")
        self._noted: dict[tuple[int, int], _Noted] = {}
        """By group and identity of the fingerprint, which the entry keeps alive."""
        self._ring: list[_Noted | None] = [None] * ENTRIES
        self._current: dict[int, _Noted] = {}
        self._next = 0

    @staticmethod
    def create() -> int:
        """A descriptor of a fresh page; private to the job's processes, gone when the last of them closes it."""
        descriptor = os.memfd_create("twister2-steps")
        os.ftruncate(descriptor, SIZE)
        return descriptor

    @property
    def aborted(self) -> bool:
        return self._bytes[0] != 0

    def abort(self) -> None:
        self._map[0] = 1

    def enter(self, group: int, step: int, fingerprint: Fingerprint) -> None:
        noted = self._noted.get((group, id(fingerprint)))
        if noted is not None:
            stride = step - noted.last
            if stride == noted.stride or (not noted.stride and stride > 0):
                if not noted.stride:
                    noted.stride = self._words[noted.at + _STRIDE] = stride
                noted.last = step
                self._words[noted.at + _LAST] = step << 1 | 1
                self._current[group] = noted
                return
        self._note(group, step, fingerprint)

    def _note(self, group: int, step: int, fingerprint: Fingerprint) -> None:
        """Begin an entry, in the place of the oldest whose step is over and was not the latest of its group."""
        words, first = self._words, _RING_AT // 8
        places = [(self._next + number) % ENTRIES for number in range(ENTRIES)]
        over = [one for one in places if not words[first + one * _WORDS + _LAST] & 1] or [self._next]
        place = next((one for one in over if not self._is_latest(self._ring[one])), over[0])
        self._next = (place + 1) % ENTRIES
        at = first + place * _WORDS
        old = self._ring[place]
        if old is not None:
            key = (old.group, id(old.fingerprint))
            if self._noted.get(key) is old:
                del self._noted[key]
            if self._current.get(old.group) is old:
                del self._current[old.group]
        noted = self._ring[place] = _Noted(at, group, step, fingerprint)
        self._noted[group, id(fingerprint)] = self._current[group] = noted
        kind, shape = _cut(fingerprint.kind, _KIND_BYTES), _cut(fingerprint.shape, _SHAPE_BYTES)
        text = b"\x1f".join((kind, shape, _cut(fingerprint.line, -_LINE_BYTES)))
        words[at + _LAST] = 0  # what is overwritten must not be read with the new text
        start = at * 8
        self._bytes[start + _ENTRY.size : start + _ENTRY.size + len(text)] = text
        _ENTRY.pack_into(self._map, start, step, 0, 0, group, len(text))
        words[at + _LAST] = step << 1 | 1

    def _is_latest(self, noted: _Noted | None) -> bool:
        return noted is not None and self._current.get(noted.group) is noted

    def leave(self, group: int, step: int) -> None:
        noted = self._current.get(group)
        if noted is None or noted.last != step:  # of several open calls an earlier one
            noted = next((one for one in self._ring if one and one.group == group and one.last == step), None)
        if noted is not None:
            self._words[noted.at + _LAST] = step << 1

    def wait_for(self, what: str) -> None:
        self._write(_WAIT_AT, TEXT_BYTES, what)

    @property
    def waits_for(self) -> str:
        return self._read(_WAIT_AT)

    def note_ways(self, text: str) -> None:
        self._write(_WAYS_AT, _WAYS_BYTES - 2, text)

    @property
    def ways(self) -> str:
        return self._read(_WAYS_AT)

    def _write(self, at: int, most: int, text: str) -> None:
        data = text.encode("utf-8", "replace")[:most]
        self._map[at : at + 2] = len(data).to_bytes(2, "little")
        self._map[at + 2 : at + 2 + len(data)] = data

    def _read(self, at: int) -> str:
        n = int.from_bytes(self._map[at : at + 2], "little")
        return bytes(self._map[at + 2 : at + 2 + n]).decode(errors="replace")

    def entries(self) -> list[Entry]:
        """The noted steps, in no particular order, without one that is just being written."""
        found = []
        for index in range(ENTRIES):
            at = _RING_AT + index * _ENTRY_BYTES
            first, last, stride, group, n = _ENTRY.unpack_from(self._map, at)
            text = bytes(self._bytes[at + _ENTRY.size : at + _ENTRY.size + n]).decode(errors="replace")
            parts = text.split("\x1f")
            again = _ENTRY.unpack_from(self._map, at)
            same = (first, group, n) == (again[0], *again[3:]) and last and again[1]
            if same and len(parts) == 3:
                found.append(Entry(group, first, last >> 1, stride or 1, bool(last & 1), *parts))
        return found

    def close(self) -> None:
        self._words.release()
        self._bytes.release()
        self._map.close()
