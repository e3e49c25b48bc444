"""The way out to one peer: its socket, the numbers of its messages, and the window that bounds what is under way.

While the reader keeps up, every message leaves at once. When it is behind, leaving earlier would not help: small
messages are collected then and leave together, when there are enough of them, when the reader has caught up, or when
the worker has nothing else to do.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from twister2.spec.comm import Send
from twister2.spec.errors import NetworkError
from twister2.spec.transports import flat

from .knock import Knock
from .watch import Watch
from .ways import SENT, BrokenWayError
from .wire import Batch, CallPacker, Head, Kind, pack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twister2.spec.batch import Buffer

    from .config import TcpConfig
    from .dial import Dial
    from .ways import Way

SYNC_S = 1.0
"""How long a message may stay unacknowledged before the reader is asked whether it lacks one."""
CHECK_S = 1.0
"""How often a peer that accepts nothing is asked whether it still listens."""


BEHIND = 32
"""A reader that has not acknowledged so many messages is behind: small ones are collected."""
SMALL = 4096
"""Messages of at most so many bytes are collected."""
ENOUGH_BYTES, ENOUGH_MESSAGES = 32 << 10, 512
"""What is collected leaves when it is so much,"""
PATIENCE_S = 0.0002
"""or this old."""


class _Collected(Send):
    """Small messages that wait to leave together. Not done before they do: whoever waits for it goes on progressing."""

    def __init__(self) -> None:
        self.left = False
        self.since = time.monotonic()

    @property
    def done(self) -> bool:
        return self.left


class Outgoing:
    """Messages to one peer. ``head`` makes a header: kind and sequence, with what this rank has read from the peer."""

    def __init__(self, peer: int, config: TcpConfig, dial: Dial, head: Callable[[Kind, int, int], Head]) -> None:
        self._peer, self._config, self._dial, self._head = peer, config, dial, head
        self._way: Way | None = None
        self._batch = Batch()
        self._collected: _Collected | None = None
        self._sequence = self._acked_messages = 0
        self._bytes = self._acked_bytes = 0
        self._heard = 0.0  # when the peer was heard last, or the first message that it has not read was sent
        self._asked = 0.0
        self._watch: Watch | None = None
        self._untold: dict[Kind, None] = {}
        self._knock: Knock | None = None
        self._checked = 0.0
        self.ended = ""

    @property
    def reaches(self) -> bool | None:
        """Whether the handshake with the peer was completed; None while it is not known."""
        if self._way is not None:
            return True
        return False if self._dial.failed else None

    @property
    def pushes(self) -> bool:
        """Whether what was taken has to be moved by :meth:`push`."""
        return self._way is not None and self._way.keeps

    @property
    def flushed(self) -> bool:
        """Whether the peer has read all that was sent."""
        return self._sequence == self._acked_messages

    def send(self, frames: Sequence[Buffer]) -> Send | None:
        """Hand over a message, or refuse it.

        :raises NetworkError: the peer is gone or was never reached.
        """
        if self._full():
            return None
        unread = self._sequence - self._acked_messages
        views = [frame if type(frame) is bytes else flat(frame) for frame in frames]
        size = sum(map(len, views))
        batch, collected = self._batch, self._collected
        if size <= SMALL and unread >= BEHIND:
            batch.add([view if type(view) is bytes else bytes(view) for view in views], SMALL + 1)
            self._sequence += 1
            self._bytes += size
            if collected is None:
                collected = self._collected = _Collected()
            if batch.size >= ENOUGH_BYTES or batch.n_messages >= ENOUGH_MESSAGES:
                self.flush()
            return collected
        if collected is not None:
            self.flush()
            batch = self._batch
        if not unread:
            self._heard = time.monotonic()
        batch.add(views, self._config.zero_copy_bytes)
        self._sequence += 1
        self._bytes += size
        return self._leave()

    def post(
        self, packer: CallPacker, read_messages: int, read_bytes: int, words: bytes, data: Buffer, size: int
    ) -> Send | None:
        """Hand over a part in a collective call, ``size`` bytes, which may be changed as soon as this returns; None
        when it is refused.

        :raises NetworkError: as :meth:`send`.
        """
        # one call under way at a time is the rule, and no window is full with one message
        if (self._sequence - self._acked_messages > 1 or self.ended or self._way is None) and self._full():
            return None
        if self._collected is not None:
            self.flush()
        if self._sequence == self._acked_messages:
            self._heard = time.monotonic()
        self._sequence += 1
        self._bytes += size
        assert self._way is not None
        try:
            return self._way.post(packer.head(self._sequence, read_messages, read_bytes, words), data)
        except BrokenWayError as error:
            raise self._broken(error) from error

    def _full(self) -> bool:
        """Whether nothing more can be taken for now."""
        if self.ended or self._way is None:
            self._raise_if_gone()
            return True
        unread = self._sequence - self._acked_messages
        if unread >= self._config.window_messages or (
            # two at least: one on its way while the other is read
            unread > 1 and self._bytes - self._acked_bytes >= self._config.window_bytes
        ):
            self._check()
            return True
        return False

    def flush(self, patience_s: float = 0.0, now: float = 0.0) -> bool:
        """Let what was collected leave, if it is older than ``patience_s`` at the time ``now``.

        That the peer has gone is for the next message to say: it may have closed because it needs no more.
        """
        collected = self._collected
        if collected is None or (patience_s and now - collected.since < patience_s):
            return False
        self._collected = None
        with contextlib.suppress(NetworkError):
            self._leave()
        collected.left = True
        return True

    def _leave(self) -> Send:
        batch, way = self._batch, self._way
        assert way is not None
        self._batch = Batch()
        try:
            return way.send(batch.pack(self._head(Kind.DATA, self._peer, self._sequence - batch.n_messages + 1)))
        except BrokenWayError as error:
            raise self._broken(error) from error

    def push(self) -> bool:
        """Go on with what the way out has taken; whether something moved. That the peer has gone is for the next
        message to say.
        """
        if self._way is None:
            return False
        try:
            return self._way.push()
        except BrokenWayError as error:
            self._broken(error)
            return True

    def tell(self, kind: Kind) -> None:
        """Send a message without frames; as soon as the peer is reached, if it is not yet."""
        if self._way is None:
            self._untold[kind] = None
        elif not self.ended:
            self.flush()
            try:
                self._way.send(pack(self._head(kind, self._peer, self._sequence), (), 1))
            except BrokenWayError as error:
                self._broken(error)

    def acknowledged(self, messages: int, n_bytes: int) -> None:
        """The peer has read this much, in all."""
        self._heard = time.monotonic()
        if messages > self._acked_messages:
            self._acked_messages, self._acked_bytes = messages, n_bytes

    def progress(self) -> bool:
        """Go on dialling; returns whether something changed."""
        if self._way is not None or self._dial.failed:
            return False
        self._way = self._dial.poll()
        if self._way is not None:
            for kind in self._untold:
                self.tell(kind)
        return self._way is not None or self._dial.failed

    def sync(self, now: float) -> None:
        """Look after messages that are unread for long: ask the reader whether it lacks one, and whether it is there.

        :raises NetworkError: the host of the peer does not answer any more.
        """
        if self._way is None or self._way.keeps or self.flushed or self.ended:
            return
        if now - max(self._heard, self._asked) > SYNC_S:
            self._asked = now
            self.tell(Kind.SYNC)
        target = self._dial.target
        if target is None or isinstance(target, str):
            return
        if self._watch is None:
            self._watch = Watch(target, self._config.unreachable_s)
        elif now - self._heard < SYNC_S:
            self._watch.reset()
        self.ended = self._watch.gone(now, now - self._heard)
        self._raise_if_gone()

    @property
    def state(self) -> str:
        """What was sent, and how much of it is known to be read, in words."""
        if self._way is None:
            return f"not reached ({self._dial.problem or 'being dialled'})"
        words = [f"{self._sequence} sent", f"{self._acked_messages} of them read there"]
        if self._collected is not None:
            words.append(f"{self._batch.n_messages} being collected")
        if not self._way.idle:
            words.append("some of it not written yet")
        if self.ended:
            words.append(self.ended)
        elif not self.flushed:
            words.append(f"not heard for {time.monotonic() - self._heard:.1f} s")
        return ", ".join(words)

    def farewell(self) -> Send:
        """Say that nothing follows; done when this was taken by the sending thread, with everything before it.

        That thread may still hold up to a batch of bytes that it has encoded, but not yet written. It encodes nothing
        more before they are written, so that a second farewell, said after the first is done, proves that they are.
        """
        if self._way is None or self.unheard():
            return SENT
        self.flush()
        try:
            return self._way.farewell(bytes(pack(self._head(Kind.BYE, self._peer, self._sequence), (), 1)[0]))
        except BrokenWayError as error:
            self._broken(error)
            return SENT

    def unheard(self) -> bool:
        """Whether it is certain that nobody listens any more."""
        if self.ended or self._dial.target is None:
            return True
        if self._way is not None and self._way.keeps:
            return False
        knock = Knock(self._dial.target)
        knock.poll()
        refused = knock.refused
        knock.close()
        return refused

    def close(self) -> None:
        """Release the socket; what has not left the process is dropped."""
        self._dial.close()
        if self._watch is not None:
            self._watch.close()
        if self._knock is not None:
            self._knock.close()
            self._knock = None
        if self._way is not None:
            self._way.close()
            self._way = None

    def _check(self) -> None:
        if self._way is not None and self._way.keeps:
            return
        now = time.monotonic()
        if self._knock is not None:
            if self._knock.poll() is None:
                return
            if self._knock.refused:
                self.ended = "nobody listens at its address any more"
            self._knock.close()
            self._knock = None
            self._raise_if_gone()
        elif now - self._checked > CHECK_S and self._dial.target is not None:
            if self._checked:
                self._knock = Knock(self._dial.target)
            self._checked = now

    def _broken(self, error: BrokenWayError) -> NetworkError:
        """Nobody reads at the other end; what it had read before is not lost."""
        self.ended = self.ended or str(error)
        return self._gone(self.ended)

    def _raise_if_gone(self) -> None:
        why = self.ended or (self._dial.problem if self._dial.failed and self._way is None else "")
        if why:
            raise self._gone(why)

    def _gone(self, why: str) -> NetworkError:
        return NetworkError(
            f"worker {self._peer} cannot be reached any more",
            why=why,
            remedy="see why that worker ended (twister2 logs), and whether a firewall is between the hosts",
            details={"left": self._peer} if self.ended else {},
        )
