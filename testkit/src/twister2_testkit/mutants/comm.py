"""Transports with one fault each; :class:`twister2_testkit.comm.CommSuite` must reject every one.

They wrap a sound transport between threads, so that the faults are in nothing but the wrapping.
"""

from __future__ import annotations

import os
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from twister2.spec.comm import Received, Send, Transport, TransportContext
from twister2_testkit.loopback import LoopbackTransport

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twister2.spec.batch import Buffer
    from twister2.spec.comm import Address


class _Sent(Send):
    done = True


class Wrapped(Transport):
    """Passes everything on to a sound transport; mutants override one method."""

    facts = LoopbackTransport.facts

    def __init__(self, context: TransportContext, sound: Transport | None = None) -> None:
        self.context = context
        self.sound = sound if sound is not None else LoopbackTransport(context)
        self.count = 0

    def open(self) -> Address:
        """As the sound one."""
        return self.sound.open()

    def connect(self, peers: Mapping[int, Address]) -> None:
        """As the sound one."""
        self.sound.connect(peers)

    def reaches(self, peer: int) -> bool | None:
        """As the sound one."""
        return self.sound.reaches(peer)

    def isend(self, peer: int, frames: Sequence[Buffer]) -> Send | None:
        """As the sound one."""
        return self.sound.isend(peer, frames)

    def receive(self) -> Received | None:
        """As the sound one."""
        return self.sound.receive()

    def progress(self) -> bool:
        """As the sound one."""
        return self.sound.progress()

    def wait_fd(self) -> int | None:
        """As the sound one."""
        return self.sound.wait_fd()

    def close(self, *, aborted: bool = False, deadline_s: float = 2.0) -> None:
        """As the sound one."""
        self.sound.close(aborted=aborted, deadline_s=deadline_s)


class Loses(Wrapped):
    """Drops every 50th message."""

    def isend(self, peer: int, frames: Sequence[Buffer]) -> Send | None:
        """Claim that a message was taken."""
        self.count += 1
        return _Sent() if self.count % 50 == 0 else super().isend(peer, frames)


class Reorders(Wrapped):
    """Delivers every 20th message after the next one."""

    _held: Received | None = None
    _overtaken: Received | None = None

    def receive(self) -> Received | None:
        """Hold a message back until another one of its sender has come."""
        if self._overtaken is not None:
            late, self._overtaken = self._overtaken, None
            return late
        received = super().receive()
        if received is None:
            return None
        if self._held is not None and self._held.peer == received.peer:
            self._overtaken, self._held = self._held, None
            return received
        self.count += 1
        if self._held is None and self.count % 20 == 0:
            self._held = received
            return None
        return received


class Duplicates(Wrapped):
    """Delivers every 30th message twice."""

    def isend(self, peer: int, frames: Sequence[Buffer]) -> Send | None:
        """Send it again at times."""
        send = super().isend(peer, frames)
        self.count += 1
        if send is not None and self.count % 30 == 0:
            super().isend(peer, frames)
        return send


class Truncates(Wrapped):
    """Cuts frames at 64 KiB."""

    def isend(self, peer: int, frames: Sequence[Buffer]) -> Send | None:
        """Send the beginnings only."""
        return super().isend(peer, [memoryview(frame).cast("B")[: 1 << 16] for frame in frames])


class DropsEmptyFrames(Wrapped):
    """Leaves frames of no bytes out."""

    def isend(self, peer: int, frames: Sequence[Buffer]) -> Send | None:
        """Send the others only."""
        return super().isend(peer, [frame for frame in frames if len(frame)] or [b""])


class MixesPeers(Wrapped):
    """Names a wrong sender now and then."""

    def receive(self) -> Received | None:
        """Say that every 25th message came from somebody else."""
        received = super().receive()
        if received is None:
            return None
        self.count += 1
        if self.count % 25:
            return received
        others = [rank for rank in range(self.context.size) if rank not in (self.context.rank, received.peer)]
        return Received(others[0] if others else received.peer, received.frames)


class Aliases(Wrapped):
    """Hands over the writer's own memory, unlocked, and calls it copied."""

    def __init__(self, context: TransportContext) -> None:
        super().__init__(context, _ByReference(context))


class _ByReference(LoopbackTransport):
    def isend(self, peer: int, frames: Sequence[Buffer]) -> Send | None:
        send = super().isend(peer, [b""] * len(frames))
        if send is not None:
            mail: Any = self._peers[peer]._mail
            mail[-1] = Received(self._context.rank, tuple(memoryview(frame).toreadonly() for frame in frames))
        return send


class ReusesReceiveBuffer(Wrapped):
    """Receives everything into the same memory, whoever still looks at it."""

    def __init__(self, context: TransportContext) -> None:
        super().__init__(context)
        self._memory = bytearray(65 << 20)

    def receive(self) -> Received | None:
        """Copy the message into the buffer of the one before."""
        received = super().receive()
        if received is None:
            return None
        view, start, frames = memoryview(self._memory), 0, []
        for frame in received.frames:
            part = view[start : start + frame.nbytes]
            part[:] = frame
            frames.append(part.toreadonly())
            start += frame.nbytes
        return Received(received.peer, tuple(frames))


class WritableFrames(Wrapped):
    """Gives its readers memory that they can change."""

    def receive(self) -> Received | None:
        """Copy the frames into arrays of bytes."""
        received = super().receive()
        if received is None:
            return None
        return Received(received.peer, tuple(memoryview(bytearray(frame)) for frame in received.frames))


class BlocksInProgress(Wrapped):
    """Sleeps in progress for as long as nothing comes."""

    def progress(self) -> bool:
        """Take a nap."""
        time.sleep(0.02)
        return super().progress()


class NeverRefuses(Wrapped):
    """Buffers without bound."""

    def __init__(self, context: TransportContext) -> None:
        super().__init__(context, LoopbackTransport(context, capacity=1 << 30))


class BlocksWhenFull(Wrapped):
    """Waits for the reader where it should refuse."""

    def isend(self, peer: int, frames: Sequence[Buffer]) -> Send | None:
        """Send, however long it takes."""
        while (send := super().isend(peer, frames)) is None:
            if self.context.aborted():
                return None
            time.sleep(0.001)
        return send


class TakesWhatItRefuses(Wrapped):
    """Says no after it has taken the message."""

    def isend(self, peer: int, frames: Sequence[Buffer]) -> Send | None:
        """Refuse every 40th message and send it all the same."""
        send = super().isend(peer, frames)
        self.count += 1
        return None if self.count % 40 == 0 else send


class RefusesEverybody(Wrapped):
    """Refuses all peers as long as one of them is clogged: bounds per connection, not per pair."""

    _clogged: tuple[int, float] | None = None

    def isend(self, peer: int, frames: Sequence[Buffer]) -> Send | None:
        """Ask only the clogged peer until it takes something."""
        if self._clogged is not None and peer != self._clogged[0]:
            return None
        send = super().isend(peer, frames)
        self._clogged = (peer, time.monotonic()) if send is None else None
        return send


class Unfair(Wrapped):
    """Reads from the lowest rank as long as that has something."""

    def __init__(self, context: TransportContext) -> None:
        super().__init__(context)
        self._waiting: list[Received] = []

    def receive(self) -> Received | None:
        """Take everything in, and give the lowest rank's first."""
        while len(self._waiting) < 500 and (received := super().receive()) is not None:
            self._waiting.append(received)
        if not self._waiting:
            return None
        first = min(range(len(self._waiting)), key=lambda index: self._waiting[index].peer)
        return self._waiting.pop(first)


class LooksUpWhenDry(Wrapped):
    """Stays with the writers that it knows until all of them have nothing more."""

    def __init__(self, context: TransportContext) -> None:
        super().__init__(context)
        self._known: set[int] = set()
        self._others: deque[Received] = deque()

    def receive(self) -> Received | None:
        """Those who had something before come first, and take turns."""
        while (received := super().receive()) is not None and received.peer not in self._known:
            self._others.append(received)
            if len(self._others) > 500:
                break
        if received is None and self._others:
            received = self._others.popleft()
            self._known.add(received.peer)
        return received


class SleepsThroughMessages(Wrapped):
    """Has a descriptor that tells of nothing."""

    def wait_fd(self) -> int | None:
        """The reading end of a pipe into which nobody writes."""
        if not self.count:
            self.count, self._other = os.pipe()
        return self.count

    def close(self, *, aborted: bool = False, deadline_s: float = 2.0) -> None:
        """Close the pipe too."""
        if self.count:
            os.close(self.count)
            os.close(self._other)
            self.count = 0
        super().close(aborted=aborted, deadline_s=deadline_s)


class SleepsThroughRoom(Wrapped):
    """Has a descriptor that tells of messages only."""

    def __init__(self, context: TransportContext) -> None:
        super().__init__(context, _DeafToRoom(context))


class _DeafToRoom(LoopbackTransport):
    def tell_of_room(self) -> None:
        pass


class ForgetsOnClose(Wrapped):
    """Keeps its last messages to itself, and drops them when it is closed."""

    def __init__(self, context: TransportContext) -> None:
        super().__init__(context)
        self._kept: list[tuple[int, list[bytes]]] = []

    def isend(self, peer: int, frames: Sequence[Buffer]) -> Send | None:
        """Send the message before, and keep this one."""
        if self._kept and super().isend(*self._kept[0]) is None:
            return None
        self._kept = [(peer, [bytes(frame) for frame in frames])]
        return _Sent()

    def progress(self) -> bool:
        """Send what is kept."""
        if self._kept and super().isend(*self._kept[0]) is not None:
            self._kept = []
        return super().progress()


class AcceptsOldAttempts(Wrapped):
    """Does not look at the attempt."""


class WorksAfterClose(Wrapped):
    """Is silent about being used after close."""

    _closed = False

    def isend(self, peer: int, frames: Sequence[Buffer]) -> Send | None:
        """Claim that it was sent."""
        return _Sent() if self._closed else super().isend(peer, frames)

    def close(self, *, aborted: bool = False, deadline_s: float = 2.0) -> None:
        """Remember it."""
        self._closed = True
        super().close(aborted=aborted, deadline_s=deadline_s)


class ClosesSlowly(Wrapped):
    """Waits in an aborted close for whoever may still come."""

    def close(self, *, aborted: bool = False, deadline_s: float = 2.0) -> None:
        """Sleep through the deadline."""
        if aborted:
            time.sleep(deadline_s + 0.2)
        super().close(aborted=aborted, deadline_s=deadline_s)


class RecyclesLeases(Wrapped):
    """Uses the memory of what it has delivered again after a hundred messages, whoever still looks at it."""

    def __init__(self, context: TransportContext) -> None:
        super().__init__(context)
        self.ring: dict[tuple[int, int], bytearray] = {}

    def receive(self) -> Received | None:
        """Copy the message into the oldest buffers."""
        received = super().receive()
        if received is None:
            return None
        self.count += 1
        frames = []
        for number, frame in enumerate(received.frames):
            buffer = self.ring.setdefault((self.count % 100, number), bytearray(1 << 18))
            buffer[: frame.nbytes] = frame
            frames.append(memoryview(buffer)[: frame.nbytes].toreadonly())
        return Received(received.peer, tuple(frames))


class KeepsOneBack(Wrapped):
    """Sends a message when the next one comes, and the last one when it is closed."""

    _last: tuple[int, list[bytes]] | None = None

    def isend(self, peer: int, frames: Sequence[Buffer]) -> Send | None:
        """Claim that it was sent."""
        if self._last is not None and super().isend(*self._last) is None:
            return None
        self._last = (peer, [bytes(frame) for frame in frames])
        return _Sent()

    def close(self, *, aborted: bool = False, deadline_s: float = 2.0) -> None:
        """Send what is kept first."""
        if self._last is not None and not aborted:
            super().isend(*self._last)
            self._last = None
        super().close(aborted=aborted, deadline_s=deadline_s)


class ClosesWhenRead(Wrapped):
    """Waits in close until everything was read, whatever the deadline."""

    def close(self, *, aborted: bool = False, deadline_s: float = 2.0) -> None:
        """Sleep as if somebody might still read."""
        if not aborted:
            time.sleep(8.0)
        super().close(aborted=aborted, deadline_s=deadline_s)


class AllocatesOneBuffer(Wrapped):
    """Gives the same memory to everybody who asks."""

    def __init__(self, context: TransportContext) -> None:
        super().__init__(context)
        self.memory = bytearray(1 << 21)

    def allocate(self, nbytes: int) -> memoryview | None:
        """The beginning of the only buffer."""
        return memoryview(self.memory)[:nbytes]


class AllocatesForEver(Wrapped):
    """Never gets its memory back."""

    def allocate(self, nbytes: int) -> memoryview | None:
        """A new piece, until there is no more."""
        self.count += nbytes
        return memoryview(bytearray(nbytes)) if self.count < 1 << 26 else None


MUTANTS: dict[type[Transport], str] = {
    Loses: "test_every_pair_keeps_order_and_delivers_exactly_once",
    Reorders: "test_every_pair_keeps_order_and_delivers_exactly_once",
    Duplicates: "test_every_pair_keeps_order_and_delivers_exactly_once",
    MixesPeers: "test_every_pair_keeps_order_and_delivers_exactly_once",
    TakesWhatItRefuses: "test_every_pair_keeps_order_and_delivers_exactly_once",
    Truncates: "test_a_frame_of_any_size_arrives_as_sent",
    DropsEmptyFrames: "test_frames_keep_their_number_order_and_lengths",
    Aliases: "test_a_buffer_may_be_used_again_once_its_send_is_done",
    ReusesReceiveBuffer: "test_received_frames_stay_as_they_are_while_a_view_lives",
    WritableFrames: "test_received_frames_stay_as_they_are_while_a_view_lives",
    BlocksInProgress: "test_progress_never_blocks",
    NeverRefuses: "test_a_reader_that_does_not_read_stops_its_own_writers_only",
    BlocksWhenFull: "test_a_reader_that_does_not_read_stops_its_own_writers_only",
    RefusesEverybody: "test_a_reader_that_does_not_read_stops_its_own_writers_only",
    Unfair: "test_a_reader_is_fair_between_its_writers",
    LooksUpWhenDry: "test_a_newcomer_has_its_turn",
    SleepsThroughMessages: "test_the_descriptor_wakes_a_sleeper_for_every_message",
    SleepsThroughRoom: "test_the_descriptor_wakes_a_writer_that_waits_for_room",
    ForgetsOnClose: "test_close_delivers_what_was_sent_before",
    WorksAfterClose: "test_close_may_be_repeated_and_ends_the_transport",
    ClosesSlowly: "test_close_of_a_clogged_pair_keeps_its_deadline",
    RecyclesLeases: "test_leases_outlive_many_later_messages",
    KeepsOneBack: "test_sent_messages_arrive_without_another_call",
    ClosesWhenRead: "test_an_orderly_close_of_a_clogged_pair_keeps_its_deadline",
    AllocatesOneBuffer: "test_pieces_of_memory_of_the_transport_are_apart",
    AllocatesForEver: "test_memory_of_the_transport_is_sent_and_given_back",
    AcceptsOldAttempts: "test_a_process_of_an_old_attempt_is_refused",
}
"""Every mutant and the test that must reject it."""
