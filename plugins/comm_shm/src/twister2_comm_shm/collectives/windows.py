"""Arrays of other members, read where they lie in those processes' own memory (``process_vm_readv``).

The system allows it among processes of one user, unless it was told otherwise (Yama, seccomp); so it is tried once for
each member, and arrays go through the stages where any member cannot read any other one. With each read comes the nonce
of the process it is meant for: whatever process has that number by now, nothing else is taken for its array.
"""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING, Any

from ..home import NONCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .area import Area


class _Part(ctypes.Structure):
    _fields_ = (("start", ctypes.c_void_p), ("n_bytes", ctypes.c_size_t))


def _system_call() -> Any:
    try:
        found = ctypes.CDLL(None, use_errno=True).process_vm_readv
    except (OSError, AttributeError):  # not Linux
        return None
    found.restype = ctypes.c_ssize_t
    found.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong, ctypes.c_ulong)
    return found


system_call: Any = _system_call()


class _Window:
    """Reads two parts of a process's memory at a time."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.here, self.there = (_Part * 2)(), (_Part * 2)()
        self._at = ctypes.addressof(self.here), ctypes.addressof(self.there)

    def read(self, n_bytes: int) -> bool:
        """Whether all of it could be read."""
        here, there = self._at
        return bool(system_call(self._pid, here, 2, there, 2, 0) == n_bytes)


class Windows:
    """What one member reads of the others.

    :ivar sees: whether this member can read all others; None as long as it has not tried.
    """

    def __init__(self, area: Area, nonces: Sequence[bytes]) -> None:
        """:param nonces: of the members' processes, by rank."""
        self._area, self._nonces = area, nonces
        self._proof = ctypes.create_string_buffer(nonces[area.rank], NONCE)
        self._got = ctypes.create_string_buffer(NONCE)
        self._own, self._others = _Window(os.getpid()), dict[int, _Window]()
        for at, part in enumerate(self._own.here):
            part.start, part.n_bytes = ctypes.addressof(self._got) + at, 1
        self._known = (0, 0)
        self.sees: bool | None = None
        at = area.window(area.rank)
        area.words[at], area.words[at + 1] = os.getpid(), ctypes.addressof(self._proof)

    def attempt(self) -> None:
        """Try to read all others, once, and say whether it went. After all have entered a call, before its end."""
        if self.sees is not None:
            return
        words, found = self._area.words, system_call is not None
        for member in range(self._area.layout.size):
            if found and member != self._area.rank:
                pid, place, _ = words[self._area.window(member) : self._area.window(member) + 3]
                window = self._others[member] = _Window(pid)
                window.here[0].start, window.here[0].n_bytes = ctypes.addressof(self._got), NONCE
                window.there[0].start, window.there[0].n_bytes = place, NONCE
                probe = ctypes.create_string_buffer(NONCE)
                found = self.read(member, place, ctypes.addressof(probe), NONCE) and probe.raw == self._nonces[member]
        self.sees = words[self._area.window(self._area.rank) + 2] = found

    def clear(self) -> bool:
        """Whether all members can read each other. In a call after the one in which they have tried."""
        words, window = self._area.words, self._area.window
        return all(words[window(member) + 2] for member in range(self._area.layout.size))

    def readable(self, start: int, n_bytes: int) -> bool:
        """Whether others could read an array of this process: what devices have mapped cannot be read so."""
        if (start, n_bytes) != self._known:  # the same array as in the call before: most programs' loops
            there = self._own.there
            there[0].start, there[1].start = start, start + n_bytes - 1
            there[0].n_bytes = there[1].n_bytes = 1
            if not self._own.read(2):
                return False
            self._known = start, n_bytes
        return True

    def read(self, member: int, place: int, target: int, n_bytes: int) -> bool:
        """Read from a place in another member's memory to a place in this one's; False when that is not possible."""
        window = self._others[member]
        here, there = window.here[1], window.there[1]
        here.start, here.n_bytes, there.start, there.n_bytes = target, n_bytes, place, n_bytes
        return window.read(NONCE + n_bytes) and self._got.raw == self._nonces[member]
