"""One peer: whether it is there, its home segment, its bell, both directions of messages."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Final

from twister2.spec.errors import NetworkError

from .home import ASLEEP, CLOSED, REFUSED, as_words
from .incoming import Incoming
from .limits import descriptors_for
from .meeting import GROUP, HELLO, RING, SEGMENT, Note, read
from .ring import RingReader
from .segment import attach

if TYPE_CHECKING:
    import mmap
    import socket

    from .home import Layout
    from .outgoing import Outgoing

GRACE_S: Final = 6.0
"""How long a dead peer is nobody's error: the job master says what happened, and it says it better."""


class Peer:
    """What a worker knows of another one.

    :ivar link: connection to it, for what this worker says. :ivar back: connection from it.
    """

    def __init__(self, rank: int, path: str, nonce: bytes, layout: Layout, me: int) -> None:
        self.rank, self.path, self.nonce = rank, path, nonce
        self._layout, self._me = layout, me
        self.link: socket.socket | None = None
        self.back: socket.socket | None = None
        self.home: mmap.mmap | None = None
        self.words: memoryview | None = None
        self._bell = -1
        self.out: Outgoing | None = None
        self.incoming: Incoming | None = None
        self.segments: dict[int, mmap.mmap] = {}
        self.groups: dict[int, tuple[int, int]] = {}
        self.unreachable = "" if path else "it listens at no path that this worker could see"
        self._died = 0.0

    # -- there or not --------------------------------------------------------------------------------------------------

    @property
    def settled(self) -> bool:
        """Whether it is known to be reached or not."""
        return bool(self.unreachable) or (self.home is not None and self.link is not None)

    @property
    def reaches(self) -> bool | None:
        """As :meth:`twister2.spec.comm.Transport.reaches`."""
        if self.unreachable or self._died or self.closed:
            return False
        return True if self.home is not None and self.link is not None else None

    @property
    def closed(self) -> bool:
        """Whether it has closed its transport."""
        return self.home is not None and self.home[CLOSED] != 0

    @property
    def state(self) -> str:
        """What is under way between it and this worker, in words."""
        words = ["nothing sent" if self.out is None else self.out.state]
        if self.incoming is None:
            words.append("nothing came")
        else:
            reader = self.incoming.reader
            words.append(
                f"{reader.tail} bytes came, {reader.head} of them taken, {len(self.incoming.leases)} frames held"
            )
        if self._died or self.closed:
            words.append("it has died" if self._died else "it has closed its transport")
        elif self.home is None or self.link is None:
            words.append(self.unreachable or "not reached yet")
        elif self.home[ASLEEP]:
            words.append("it sleeps")
        return ", ".join(words)

    @property
    def gone(self) -> bool:
        """Whether nothing more can come from it or go to it."""
        return bool(self._died) or self.closed

    def check(self) -> None:
        """Raise if messages can never reach it.

        :raises NetworkError: it was never reached, has closed, or died a while ago.
        """
        why, left = self.unreachable, self.closed
        if left:
            why = "it has closed its transport"
        elif self._died and time.monotonic() - self._died > GRACE_S:
            why, left = "its process has died", True
        if why:
            raise NetworkError(
                f"worker {self.rank} cannot be reached any more",
                why=why,
                remedy="see why that worker ended (twister2 logs)",
                details={"left": self.rank} if left else {},
            )

    def meets(self, back: socket.socket, note: Note, attempt: int) -> bool:
        """It has come: map its home segment and read the nonce; False when it is not the one.

        :raises NetworkError: no descriptors are left.
        """
        if self.home is not None or len(note.descriptors) != 2 or note.size < self._layout.n_bytes:
            note.drop()
            return False
        home_fd, bell = note.descriptors
        try:
            with descriptors_for("the memory of a peer"):
                home = attach(home_fd, note.size)
        except NetworkError:
            os.close(bell)
            raise
        except (OSError, ValueError):
            os.close(bell)
            return False
        if not self._layout.proves(home, attempt, self.rank, self.nonce):
            home.close()
            os.close(bell)
            return False
        self.home, self._bell, self.back = home, bell, back
        self.words = as_words(home)
        return True

    def wake(self) -> None:
        """Ring its bell if it sleeps. After a full fence after what it shall see."""
        home = self.home
        if home is not None and home[ASLEEP]:
            self._ring(home)

    def tell_of_room(self) -> None:
        """All that it sent is read: ring its bell if it was refused, awake or not: it may be about to sleep."""
        home = self.home
        if home is not None and home[REFUSED]:
            home[REFUSED] = 0
            self._ring(home)

    def _ring(self, home: mmap.mmap) -> None:
        home[ASLEEP] = 0
        with contextlib.suppress(BlockingIOError):  # as many wakes as a counter holds: it is awake
            os.eventfd_write(self._bell, 1)

    # -- notes ---------------------------------------------------------------------------------------------------------

    def read_notes(self) -> bool:
        """Take in what it said; whether anything was there."""
        moved = False
        while self.back is not None:
            note = read(self.back)
            if note is None:
                break
            moved = True
            if not isinstance(note, Note):
                self._died = time.monotonic()
                return True
            self._take(note)
        return moved

    def hang_up(self) -> socket.socket | None:
        """The connection that has ended, for whoever watches it to let go."""
        back, self.back = self.back, None
        return back

    @property
    def died(self) -> bool:
        """Whether its connection has ended."""
        return bool(self._died)

    def _take(self, note: Note) -> None:
        if len(note.descriptors) != 1 or note.kind == HELLO or self.home is None:
            note.drop()
            return
        (fd,) = note.descriptors
        if note.kind == GROUP:
            self.groups[note.number] = (fd, note.size)
            return
        try:
            with descriptors_for(f"the memory of worker {self.rank}"):
                mapped = attach(fd, note.size)
        except (OSError, ValueError) as error:
            raise NetworkError(
                f"memory of worker {self.rank} cannot be mapped",
                why=str(error),
                remedy="raise the limit of address space (ulimit -v)",
            ) from error
        if note.kind == SEGMENT:
            self.segments[note.number] = mapped
        elif note.kind == RING and self.incoming is None:
            assert self.words is not None
            reader = RingReader(mapped, self.words, (self._layout.heads >> 3) + self._me)
            self.incoming = Incoming(
                self.rank,
                reader,
                mapped,
                self.home,
                layout=self._layout,
                quota=note.number,
                segment=self.segment,
                unmap=lambda number: self.unmap(number),
            )

    def segment(self, number: int) -> mmap.mmap | None:
        """Its segment of this number."""
        found = self.segments.get(number)
        if found is None:
            self.read_notes()
            found = self.segments.get(number)
        return found

    def unmap(self, number: int) -> None:
        """It uses the segment no more; views that are left keep it mapped."""
        found = self.segment(number)
        if found is not None:
            del self.segments[number]
            with contextlib.suppress(BufferError):
                found.close()

    def tail(self, value: int) -> Incoming:
        """It says that it has written so much.

        :raises NetworkError: it has no ring.
        """
        if self.incoming is None:
            self.read_notes()
        if self.incoming is None:
            raise NetworkError(
                f"worker {self.rank} has sent messages through memory that this worker does not have",
                why="its ring was not passed on",
                remedy="start the job again; see that all workers have the same version of twister2-comm-shm",
            )
        self.incoming.reader.tail = value
        return self.incoming

    def release(self) -> None:
        """Let go of everything of it. What programs still hold stays."""
        if self.out is not None:
            self.out.close()
        if self.incoming is not None:
            self.incoming.close()
        for each in (self.link, self.back):
            if each is not None:
                each.close()
        self.link = self.back = None
        for mapped in self.segments.values():
            with contextlib.suppress(BufferError):
                mapped.close()
        self.segments.clear()
        for fd, _ in self.groups.values():
            os.close(fd)
        self.groups.clear()
        if self._bell >= 0:
            os.close(self._bell)
            self._bell = -1
        if self.words is not None:
            self.words.release()
            self.words = None
        if self.home is not None and not (self.incoming is not None and self.incoming.leases):
            self.home.close()  # leases still write there
        self.home = None
