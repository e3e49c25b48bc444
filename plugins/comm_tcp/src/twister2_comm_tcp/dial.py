"""Finding the address at which a peer can be reached, and proving it by a completed handshake."""

from __future__ import annotations

import contextlib
import struct
import time
from typing import TYPE_CHECKING

import zmq

from .address import Target, endpoint
from .knock import Knock
from .lane import Lane
from .ways import Way, ZmqWay

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Socket = zmq.Socket[bytes]

SETTLE_S = 4.5
AGAIN_S = 0.5
"""How long a knock may stay without an answer before there is another one beside it: the system sends again what was
lost after 1 s, then after 2 s, and few of those fit into :data:`SETTLE_S`."""
_EVENT = struct.Struct("=HI")  # number and value; zmq.utils.monitor would read it too, but imports asyncio
_GOOD = zmq.EVENT_HANDSHAKE_SUCCEEDED
_BAD = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL


class Dial:
    """Knocks at all targets at once, takes the first that answers, and waits for the handshake with it.

    A target whose handshake fails (somebody else's port, an unknown key) is left out and the others are tried. Settles
    within :data:`SETTLE_S` seconds where nobody answers; who has answered has as long once more for the handshake.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        make_socket: Callable[[tuple[str, int]], Socket],
        watch: Callable[[int, bool], None],
    ) -> None:
        """:param make_socket: makes the zmq socket for an address. :param watch: see :class:`.lane.Lane`."""
        self._make_socket, self._watch = make_socket, watch
        self._lane: Lane | None = None
        self._left = list(targets)
        self._knocks: list[Knock] = []
        self._socket: Socket | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        self._deadline = time.monotonic() + SETTLE_S
        self._latest = self._deadline + SETTLE_S
        self._again = 0.0
        self.target: Target | None = None
        self.problem = "" if targets else "it has published no address that this host could dial"
        self._knock()

    @property
    def failed(self) -> bool:
        """Whether no target is left, or time is over; :attr:`problem` then says why."""
        return self._socket is None and not self._knocks

    def poll(self) -> Way | None:
        """The way to the peer once there is one; ask again until then or until :attr:`failed`."""
        if self._socket is None:
            if time.monotonic() > self._again:
                self._knock_again()
            self._race()
            if self._lane is not None:
                lane, self._lane = self._lane, None
                return lane
        if self._socket is not None and self._monitor is not None:
            while self._monitor.poll(0):
                event, _ = _EVENT.unpack(self._monitor.recv_multipart(zmq.NOBLOCK)[0])
                if event & _GOOD:
                    self._stop_monitor()
                    socket, self._socket = self._socket, None
                    return ZmqWay(socket)
                if event & _BAD:
                    self.problem = f"{endpoint(self._drop())} did not accept this worker's key, or is no worker's"
                    self._knock()
                    return None
        if time.monotonic() > self._deadline and not self.failed:
            self.problem = f"no answer in time from {', '.join(map(endpoint, self._left))}"
            self.close()
        return None

    def close(self) -> None:
        """Give up: release everything."""
        self._hang_up()
        if self._socket is not None:
            self._stop_monitor()
            self._socket.close(linger=0)
            self._socket = None

    def _knock(self) -> None:
        self._knocks = [Knock(target) for target in self._left]
        self._again = time.monotonic() + AGAIN_S

    def _knock_again(self) -> None:
        """Beside the first knock at each address, which may only be slow, there is one that is made anew."""
        first: dict[Target, Knock] = {}
        for knock in self._knocks:
            if first.setdefault(knock.target, knock) is not knock:
                knock.close()
        self._knocks = [*first.values()]
        self._again = time.monotonic() + AGAIN_S
        for target in first:
            if not isinstance(target, str):
                with contextlib.suppress(OSError):  # no descriptor is left: the first may still be answered
                    self._knocks.append(Knock(target))

    def _race(self) -> None:
        for knock in list(self._knocks):
            answer = knock.poll()
            if answer and isinstance(knock.target, str) and not knock.same_user():
                answer, self.problem = False, f"the socket {knock.target} belongs to another user"
            elif answer is False:
                self.problem = f"nobody listens at {endpoint(knock.target)}"
            if answer is False:
                self._give_up(knock)
                return
            if answer and (isinstance(knock.target, str) or self._only_tcp()):
                self.target = knock.target
                if isinstance(knock.target, str):  # who listens there belongs to this attempt: the name says so
                    self._knocks.remove(knock)
                    self._lane = Lane(knock.take(), self._watch)
                    self._hang_up()
                else:
                    self._connect(knock.target)
                return

    def _give_up(self, failed: Knock) -> None:
        """A knock has failed, and so has its address when nobody listens there or no other knock is left."""
        failed.close()
        self._knocks.remove(failed)
        others = [knock for knock in self._knocks if knock.target == failed.target]
        if others and not failed.refused:
            return
        for knock in others:
            knock.close()
            self._knocks.remove(knock)
        self._left.remove(failed.target)

    def _stop_monitor(self) -> None:
        if self._socket is not None and self._monitor is not None:
            self._socket.disable_monitor()
            self._monitor.close(linger=0)
            self._monitor = None

    def _only_tcp(self) -> bool:
        # a Unix socket is asked first: its answer is immediate
        return not any(isinstance(knock.target, str) for knock in self._knocks)

    def _hang_up(self) -> None:
        for knock in self._knocks:
            knock.close()
        self._knocks = []

    def _connect(self, target: tuple[str, int]) -> None:
        self._hang_up()
        self._deadline = self._latest
        self._socket = self._make_socket(target)
        self._monitor = self._socket.get_monitor_socket(_GOOD | _BAD)
        self._socket.connect(endpoint(target))

    def _drop(self) -> Target:
        assert self.target is not None
        target, self.target = self.target, None
        self._left.remove(target)
        self.close()
        return target
