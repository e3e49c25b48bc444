"""The home segment of a worker: what its peers must see and write without a message.

====================== ============================================ =====================
place                  what                                         written by
====================== ============================================ =====================
0                      magic, attempt, rank, size                   the owner, once
32                     nonce                                        the owner, once
64                     asleep: ring the bell after writing here     the owner, the ringer
72                     the owner has closed its transport           the owner
80                     the owner was refused: ring its bell when    the owner, the ringer
                       you have read all that it sent
TAILS + 8 x rank       bytes that rank has put into its ring to me  that rank
HEADS + 8 x rank       bytes that rank has taken from my ring to it that rank
SLOTS + slot           1 while a large frame is with its receiver   owner: 1, receiver: 0
====================== ============================================ =====================
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import mmap

_FACTS: Final = struct.Struct("@8sIII")
_MAGIC: Final = b"T2shm-1\0"
NONCE: Final = 16
ASLEEP: Final = 64
CLOSED: Final = 72
REFUSED: Final = 80
_CELLS: Final = 128
_LEAST_SLOTS: Final = 4096
_SLOTS_PER_PEER: Final = 256
WORD: Final = struct.Struct("@Q")
"""For reading a word. Words are *written* through :func:`as_words`: ``struct`` clears the place first, so that another
process could see a zero.
"""


def as_words(memory: mmap.mmap) -> memoryview:
    """The memory as words of eight bytes, each read or written at once."""
    return memoryview(memory).cast("Q")


class Layout:
    """Places in the home segment of any worker of a job of ``size`` workers.

    :ivar n_slots: large frames of the owner that may be with their receivers; :ivar share: with one of them.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        row = -(-8 * size // 64) * 64
        self.tails = _CELLS
        self.heads = self.tails + row
        self.slots = self.heads + row
        self.n_slots = max(_LEAST_SLOTS, _SLOTS_PER_PEER * size)
        self.share = self.n_slots // max(1, size - 1)
        self.n_bytes = self.slots + self.n_slots

    def write(self, home: mmap.mmap, attempt: int, rank: int, nonce: bytes) -> None:
        """Fill in what does not change."""
        _FACTS.pack_into(home, 0, _MAGIC, attempt, rank, self.size)
        home[32 : 32 + NONCE] = nonce

    def proves(self, home: mmap.mmap, attempt: int, rank: int, nonce: bytes) -> bool:
        """Whether this is the segment whose owner has published ``nonce``."""
        facts = (_MAGIC, attempt, rank, self.size)
        return _FACTS.unpack_from(home) == facts and home[32 : 32 + NONCE] == nonce
