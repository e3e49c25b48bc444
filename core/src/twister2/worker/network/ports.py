"""Ports: the channels of one edge on one worker, with credits per channel.

A sender may have ``window_messages`` batches and about ``window_bytes`` bytes per channel under way, less where memory
is limited (:mod:`~twister2.worker.network.under_way`); the receiver gives credit back as batches are *received* (not as
they arrive), in lumps of half a window, or at once when the sender has asked for it because it has no room. Marks pass
without credit; END may travel with the batch before it. On one worker batches are handed over without being encoded. A
long description of a value (the schema of a record batch, a structured dtype) is sent when it is another than that of
the value before on its channel.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from twister2.spec.batch import frozen, n_bytes
from twister2.spec.channel import HeaderKind
from twister2.spec.errors import NetworkError
from twister2.spec.network import Delivery, EdgeCounters, Port
from twister2.worker.network.codec import Encoded, decode, encode
from twister2.worker.network.under_way import Peer

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from twister2.worker.network.network import WorkerNetwork
    from twister2.worker.network.steps import NumberedStep
    from twister2.worker.network.wire import Message

_DATA = int(HeaderKind.DATA)
_END = int(HeaderKind.END)
_CREDIT = int(HeaderKind.CREDIT)
_KINDS = {int(kind): kind for kind in HeaderKind}

_AS_BEFORE = 0x80
"""Added to the encoding: the value is described as the last one with a long description on this channel."""
_LAST = 0x80
"""Added to the kind of a message: END follows it."""
_LONG = 24
"""Descriptions of more bytes are not repeated."""

Channel = tuple[int, int]
"""Source and target task."""


class _EndBehind(Delivery):
    """The END of a channel from another worker that came with the last batch."""


class _Out:
    """The sending end of a channel."""

    __slots__ = ("asked", "bytes", "counted", "ended", "head", "messages", "peer", "refused_at", "sequence", "sizes")

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.head = b""
        self.sequence = 0
        self.messages = 0
        self.bytes = 0
        self.counted = 0
        """Bytes that the memory service knows of: a batch that goes to several workers counts once."""
        self.sizes: deque[int] = deque()
        """Of what is under way to this worker itself."""
        self.asked = self.ended = False
        self.refused_at = 0.0

    def leave(self) -> None:
        """The channel has ended, and the receiver gives no more credit back: others have its share from now on."""
        self.ended = True
        self.peer.bytes -= self.bytes
        self.peer = Peer()

    def described(self, encoded: Encoded) -> Encoded:
        """The same without its description when the value sent before had an equal one."""
        kind, head, buffers, size = encoded
        if head == self.head:
            return kind | _AS_BEFORE, b"", buffers, size
        self.head = head
        return encoded


class _In:
    """The receiving end of a channel from another worker."""

    __slots__ = ("bytes", "ended", "head", "messages", "sequence", "urgent")

    def __init__(self) -> None:
        self.urgent = False
        self.head = b""
        self.sequence = 0
        self.messages = 0
        self.bytes = 0
        self.ended = False


class ChannelPort(Port):
    """The port of one edge."""

    __slots__ = (
        "_arrived",
        "_closed",
        "_encoded",
        "_encoded_for",
        "_encoded_of",
        "_ins",
        "_local",
        "_network",
        "_outs",
        "_peer_bytes",
        "_step",
        "_under_way",
        "_window_bytes",
        "_window_messages",
        "counters",
        "edge",
        "sources",
        "targets",
    )

    def __init__(
        self, network: WorkerNetwork, step: NumberedStep, edge: int, sources: Sequence[int], targets: Sequence[int]
    ) -> None:
        self._network = network
        self._step = step
        self.edge = edge
        self.sources = sources
        self.targets = targets
        self.counters = EdgeCounters()
        self._under_way = under_way = network.under_way
        self._window_messages = under_way.window_messages
        self._window_bytes = under_way.window_bytes
        self._peer_bytes = under_way.peer_bytes
        self._outs: dict[Channel, _Out] = {}
        self._ins: dict[Channel, _In] = {}
        self._local: dict[int, deque[Any]] = {}
        """By local target: Delivery of this worker or Message of another, in order of arrival."""
        self._arrived = 0
        self._encoded_of: Any = None
        self._encoded: Encoded | None = None
        self._encoded_for: set[Channel] = set()
        self._closed = False

    # -- sending ---------------------------------------------------------------------------------------------------

    def can_send(self, source: int, target: int) -> bool:
        out = self._outs.get((source, target))
        if out is None:
            return True
        return not self._is_full(out)

    def _is_full(self, out: _Out) -> bool:
        if out.messages >= self._window_messages or out.bytes >= self._window_bytes:
            return True
        return out.peer.bytes >= self._peer_bytes and out.bytes > 0

    def send(self, source: int, target: int, kind: HeaderKind, value: Any = None, *, last: bool = False) -> bool:
        network = self._network
        if self._closed:
            raise _misuse(f"edge {self.edge} is closed")
        if self.sources[source] != network.worker_id:
            raise _misuse(f"source {source} of edge {self.edge} is on worker {self.sources[source]}")
        channel = (source, target)
        out = self._outs.get(channel)
        if out is None:
            out = self._outs[channel] = _Out(self._under_way.peer(self.targets[target]))
        data = kind == _DATA
        if data:
            if self._is_full(out):
                self._refuse(channel, out)
                return False
            if out.refused_at:
                self.counters.blocked_s += time.perf_counter() - out.refused_at
                out.refused_at = 0.0
            value = frozen(value)
        count = _count(value) if data else 0
        peer = self.targets[target]
        if peer == network.worker_id:
            self._hand_over(out, Delivery(source, target, kind, value, count), last=last)
            size = 0
        else:
            encoded = self._encode(channel, value) if data else encode(value)
            if len(encoded[1]) > _LONG:
                encoded = out.described(encoded)
            size = encoded[3]
            out.sequence += 1
            if data:
                self._sent(out, size, size if len(self._encoded_for) == 1 else 0)
            what = int(kind) | _LAST if last else int(kind)
            network.post(self._step, peer, (what, self.edge, source, target, out.sequence, count), encoded)
        if last or kind == _END:
            self._end(out, local=peer == network.worker_id)
        counters = self.counters
        counters.messages_sent += 1
        counters.records_sent += count
        counters.bytes_sent += size
        return True

    def _hand_over(self, out: _Out, delivery: Delivery, *, last: bool) -> None:
        """To a task of this worker."""
        if delivery.kind == _DATA:
            size = n_bytes(delivery.value) if self._under_way.limited else 0
            out.sizes.append(size)
            self._sent(out, size, size)
        self._arrive(delivery.target, delivery)
        if last:
            self._arrive(delivery.target, Delivery(delivery.source, delivery.target, HeaderKind.END, None, 0))
        self._network.handed += 1

    def _sent(self, out: _Out, size: int, counted: int) -> None:
        out.messages += 1
        out.bytes += size
        out.peer.bytes += size
        if counted:
            out.counted += counted
            self._under_way.sent(counted)

    def _end(self, out: _Out, *, local: bool) -> None:
        """Nothing more comes on a channel, and of another worker no credit back: what is under way counts no more."""
        out.leave()
        if out.counted and not local:
            self._under_way.sent(-out.counted)
            out.counted = 0

    def _arrived_there(self, out: _Out, messages: int, size: int) -> None:
        """So much of what was under way has been received."""
        out.messages -= messages
        out.bytes -= size
        out.peer.bytes -= size
        if out.counted:
            counted = min(out.counted, size)
            out.counted -= counted
            self._under_way.sent(-counted)

    def _refuse(self, channel: Channel, out: _Out) -> None:
        if not out.refused_at:
            out.refused_at = time.perf_counter()
        peer = self.targets[channel[1]]
        if not out.asked and out.messages < self._window_messages and peer != self._network.worker_id:
            # the receiver need not have taken as much as makes it give credit back by itself
            out.asked = True
            self._network.post(self._step, peer, (_CREDIT, self.edge, *channel, 0, 0), None)

    def _encode(self, channel: Channel, value: Any) -> Encoded:
        """Encode a batch, once when the same one goes to several targets in a row."""
        if value is not self._encoded_of or channel in self._encoded_for or self._encoded is None:
            self._encoded_for.clear()
            self._encoded_of, self._encoded = value, encode(value)
        self._encoded_for.add(channel)
        return self._encoded

    def grant(self, message: Message) -> None:
        """Credit came back for one of our channels (messages in ``sequence``, bytes in ``n_records``); or the sender
        of one that ends here asks for credit.
        """
        channel = (message.source, message.target)
        out = self._outs.get(channel)
        if out is not None:
            self._arrived_there(out, message.sequence, message.n_records)
            return
        end = self._ins.get(channel)
        if end is not None:
            end.urgent = True
            if end.messages and not end.ended:
                self._credit(message.peer, channel, end)

    def forget_encoded(self) -> None:
        """Drop the encoding kept for a batch that goes to several workers."""
        self._encoded_of = self._encoded = None

    # -- receiving -------------------------------------------------------------------------------------------------

    def accept(self, message: Message) -> None:
        """A message of this edge came in."""
        target, source = message.target, message.source
        if target >= len(self.targets) or source >= len(self.sources):
            raise _foreign(message, f"edge {self.edge} has no channel {source} -> {target}")
        if self.targets[target] != self._network.worker_id or self.sources[source] != message.peer:
            raise _foreign(message, f"channel {source} -> {target} does not lead from that worker to this one")
        channel = (source, target)
        end = self._ins.get(channel)
        if end is None:
            end = self._ins[channel] = _In()
        if message.sequence != end.sequence + 1:
            what = "was lost" if message.sequence > end.sequence + 1 else "came twice"
            raise _foreign(
                message,
                f"message {message.sequence} came after {end.sequence} on channel {source} -> {target}: one {what}",
            )
        end.sequence = message.sequence
        if len(message.head) > _LONG:
            end.head = message.head
        elif message.encoding & _AS_BEFORE:
            if not end.head:
                raise _foreign(message, f"channel {source} -> {target} has brought no description to repeat")
            message.encoding &= ~_AS_BEFORE
            message.head = end.head
        last = message.kind & _LAST
        if last:
            message.kind ^= last
        if last or message.kind == _END:
            end.ended = True
        self._network.hold(message.size)
        self._arrive(target, message)
        if last:
            self._arrive(target, _EndBehind(source, target, HeaderKind.END, None, 0))

    def _arrive(self, target: int, what: Any) -> None:
        queue = self._local.get(target)
        if queue is None:
            queue = self._local[target] = deque()
        queue.append(what)
        self._arrived += 1

    @property
    def waiting(self) -> int:
        """Messages that have arrived and were not received."""
        return self._arrived

    @property
    def is_through(self) -> bool:
        """Whether this worker has done what others wait for: nothing waits here, every channel that was used has
        ended, and some were used if any begin or end here.
        """
        outs, ins = self._outs.values(), self._ins.values()
        if self._arrived or not (all(out.ended for out in outs) and all(end.ended for end in ins)):
            return False
        me = self._network.worker_id
        return bool(outs or ins) or not (me in self.sources or me in self.targets)

    def receive(self, target: int | None = None, skip: Container[int] = ()) -> Delivery | None:
        if not self._arrived:
            return None
        if target is None:
            for one, queue in self._local.items():
                if queue:
                    found = self._take(one, skip)
                    if found is not None:
                        return found
            return None
        return self._take(target, skip)

    def _take(self, target: int, skip: Container[int]) -> Delivery | None:
        queue = self._local.get(target)
        if not queue:
            return None
        if skip == ():
            found = queue.popleft()
        else:
            index = next((index for index, waiting in enumerate(queue) if waiting.source not in skip), -1)
            if index < 0:
                return None
            found = queue[index]
            del queue[index]
        self._arrived -= 1
        if type(found) is _EndBehind:
            return found
        counters = self.counters
        counters.messages_received += 1
        if type(found) is Delivery:
            self._network.handed += 1
            if found.kind == _DATA:
                out = self._outs[(found.source, target)]
                self._arrived_there(out, 1, out.sizes.popleft())
            counters.records_received += found.n_records
            return found
        self._network.hold(-found.size)
        if found.kind == _DATA:
            self._give_back(found)
        counters.records_received += found.n_records
        counters.bytes_received += found.size
        value = decode(found.encoding, found.head, found.buffers)
        return Delivery(found.source, target, _KINDS[found.kind], value, found.n_records)

    def _give_back(self, message: Message) -> None:
        channel = (message.source, message.target)
        end = self._ins[channel]
        end.messages += 1
        end.bytes += message.size
        if end.ended:
            return  # nothing more will come: its sender needs no credit
        if end.urgent or end.messages * 2 >= self._window_messages or end.bytes * 2 >= self._window_bytes:
            self._credit(message.peer, channel, end)

    def _credit(self, peer: int, channel: Channel, end: _In) -> None:
        self._network.post(self._step, peer, (_CREDIT, self.edge, *channel, end.messages, end.bytes), None)
        end.messages = end.bytes = 0

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for queue in self._local.values():
            for waiting in queue:
                if not isinstance(waiting, Delivery):
                    self._network.hold(-waiting.size)
        self._local.clear()
        for out in self._outs.values():
            out.peer.bytes -= out.bytes
            self._under_way.sent(-out.counted)
            out.bytes = out.counted = 0
        self._arrived = 0
        self.forget_encoded()
        step = self._step
        step.ports.pop(self.edge, None)
        step.closed_edges.add(self.edge)


def _count(value: Any) -> int:
    try:
        return len(value)
    except TypeError:
        return 1


def _misuse(why: str) -> NetworkError:
    return NetworkError("a port was used wrongly", why=why, remedy="this is a bug of the operator: report it")


def _foreign(message: Message, why: str) -> NetworkError:
    return NetworkError(
        f"a message from worker {message.peer} does not belong where it came",
        why=why,
        remedy="this is a bug of the transport or of an operator: report it, and try another transport",
        details={"peer": message.peer, "step": message.step, "edge": message.edge},
    )
