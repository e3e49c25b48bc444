"""The memory of a group.

================== ======================== ===========================================================================
part               for each member          what
================== ======================== ===========================================================================
entries            2 x 2 words              fingerprint and number of the call the member has entered, by parity
offers             2 x 2 words              segment (0: none) and place of the array it gives in a large call, by parity
posts              a cache line             how far the member has come within a large call
windows            a cache line             process, place of its nonce, whether the member can read all others' memory
slots              2 x SLOT bytes           what the member gives in a small call, by parity
rooms              2 x room_bytes           what the member gives in a call of middling size, by parity
stage              stage_bytes              what the member gives in a large call, piece by piece
================== ======================== ===========================================================================

Two sets, of odd and even calls, are enough: nobody completes a call before all have entered it, and who has entered
call k + 1 has read everything of call k; so what belongs to call k can be overwritten by call k + 2.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from typing import Final

from twister2.spec.fence import publish

from ..segment import out_of_memory

SLOT: Final = 64 << 10
"""Bytes that a member gives in a small call, at most."""
_ROOM: Final = 1 << 20
"""Bytes that a member gives in a call of middling size, at most."""
_LINE: Final = 64


class Layout:
    """Where the parts are, in bytes, for ``size`` members."""

    def __init__(self, size: int, stage_bytes: int) -> None:
        self.size = size
        self.entry_row = -(-16 * size // _LINE) * _LINE
        self.offers = 2 * self.entry_row
        self.posts = 4 * self.entry_row
        self.windows = self.posts + _LINE * size
        self.slots = -(-(self.windows + _LINE * size) // mmap.PAGESIZE) * mmap.PAGESIZE
        self.stage_bytes = -(-stage_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        self.stages = self.slots + 2 * SLOT * size
        self.room_bytes = min(_ROOM, self.stage_bytes // (4 * mmap.PAGESIZE) * mmap.PAGESIZE)
        self.large_bytes = 2 * self.room_bytes + self.stage_bytes
        self.n_bytes = self.stages + self.large_bytes * size

    def places(self, n_bytes: int) -> tuple[tuple[int, int], int]:
        """Where all members give so much in one round: the first one's place in even and in odd calls, and how far the
        next one's is.
        """
        if n_bytes <= SLOT:
            return (self.slots, self.slots + self.size * SLOT), SLOT
        return (self.stages, self.stages + self.room_bytes), self.large_bytes

    def stage(self, member: int) -> int:
        """Place of a stage; the member's rooms lie before it."""
        return self.stages + member * self.large_bytes + 2 * self.room_bytes


class Area:
    """One member's mapping of the group's memory. Takes the descriptor over.

    :raises NetworkError: too little address space, no descriptors left.
    """

    def __init__(self, fd: int, layout: Layout, rank: int, folder: str = "") -> None:
        """:param folder: of its file; empty for anonymous memory."""
        self.layout, self.rank, self._fd, self._folder = layout, rank, fd, folder
        try:
            if os.fstat(fd).st_size < layout.n_bytes:
                raise ValueError("the group's memory is smaller than its members need")
            self.map = mmap.mmap(fd, layout.n_bytes)
        except OSError as error:
            os.close(fd)
            raise out_of_memory(layout.n_bytes, error, folder) from error
        except BaseException:
            os.close(fd)
            raise
        self.words = memoryview(self.map).cast("Q")
        self._post = (layout.posts >> 3) + rank * 8
        self._backed = False

    def entry(self, parity: int, member: int) -> int:
        """Word in which a member's fingerprint stands; the number of the call is in the next one."""
        return (parity * self.layout.entry_row >> 3) + 2 * member

    def offer(self, parity: int, member: int) -> int:
        """Word in which a member says which segment its array lies in; the place in it is in the next one."""
        return ((self.layout.offers + parity * self.layout.entry_row) >> 3) + 2 * member

    def window(self, member: int) -> int:
        """First word of what is needed to read a member's memory."""
        return (self.layout.windows >> 3) + member * 8

    def post(self, value: int) -> None:
        """Say how far this member has come."""
        publish()
        self.words[self._post] = value

    def posted(self, member: int) -> int:
        """How far a member has come."""
        return self.words[(self.layout.posts >> 3) + member * 8]

    def back(self) -> None:
        """Get the memory of this member's rooms and stage, once.

        :raises NetworkError: too little memory.
        """
        if not self._backed:
            layout = self.layout
            try:
                os.posix_fallocate(self._fd, layout.stages + self.rank * layout.large_bytes, layout.large_bytes)
            except OSError as error:
                raise out_of_memory(layout.large_bytes, error, self._folder) from error
            self._backed = True

    def close(self) -> None:
        """Unmap it, as far as no array lies in it any more. Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
            self.words.release()
            with contextlib.suppress(BufferError):
                self.map.close()
