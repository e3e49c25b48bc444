"""Events: messages between members that belong to no step of the program's sequence.

An event is sent and goes on its way while the program computes; the receiver looks for one when it likes, or waits.
Events from one member come in the order they were sent. They lie in a step of a group of their own that is open until
the attempt ends, so that abort and loss of a worker end a wait for an event like any other wait.
"""

from __future__ import annotations

import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import attrs

from twister2.spec.channel import HeaderKind
from twister2.spec.errors import DeadlineError, NetworkError, OperatorError, Twister2Error

if TYPE_CHECKING:
    from twister2.spec.environment import WorkerEnvironment
    from twister2.spec.network import Group

_DATA = HeaderKind.DATA
_END = HeaderKind.END

MANY: Final = 10_000
"""So many events wait for a program that does not take them; then their senders wait."""
CLOSING_S: Final = 2.0
SHOWN: Final = 8
"""Members that an error names."""


@attrs.frozen
class Event:
    """What came. :ivar source: rank of the sender; :ivar value: what it sent."""

    source: int
    value: Any


class Events:
    """The events of one communicator; made by ``harp.events``."""

    def __init__(self, env: WorkerEnvironment, group: Group, rank: int) -> None:
        self._network = network = env.network
        self._rank, self._size = rank, group.size
        own = network.group(group.members)
        self._step = network.step("harp.events", group=own)
        self._step.__enter__()
        self._port = network.open_port(self._step, 0, own.members, own.members)
        self._arrived: deque[Event] = deque()
        self._ended: set[int] = set()
        self._closing = False
        self._request = network.keep_open(self._step, self._take, "harp.events")
        env.on_close(self._close)

    def send(self, rank: int, value: Any) -> None:
        """Send an event to a rank, itself included. Waits only while that rank neither communicates nor takes events.

        :raises OperatorError: there is no such rank.
        """
        if not 0 <= rank < self._size:
            raise OperatorError(
                f"there is no rank {rank} to send an event to",
                why=f"the group has ranks 0 to {self._size - 1}",
                remedy="give ranks of the group, not worker ids",
            )
        if rank == self._rank:
            self._arrived.append(Event(rank, value))
            return
        if not self._port.send(self._rank, rank, _DATA, [value]):
            self._network.wait_until(
                lambda: self._port.send(self._rank, rank, _DATA, [value]),
                f"harp.events: rank {rank} to take its events",
            )

    def send_all(self, value: Any) -> None:
        """Send an event to all other members."""
        for distance in range(1, self._size):
            self.send((self._rank + distance) % self._size, value)

    def get(self) -> Event | None:
        """The next event that has come, or None. Moves the network on; never waits."""
        if not self._arrived:
            self._network.progress()
            self._take()
        return self._arrived.popleft() if self._arrived else None

    def wait(self, deadline_s: float = 60.0) -> Event:
        """The next event.

        :raises DeadlineError: none came in time.
        :raises NetworkError: all others have returned: none can come any more.
        """
        try:
            self._network.wait_until(self._ready, "harp.events: an event", deadline_s, step=self._step)
        except DeadlineError as error:
            raise _no_event(error) from None
        if not self._arrived:
            raise NetworkError(
                f"rank {self._rank} waits for an event that cannot come",
                why="all other members have returned from the program",
                remedy="let the receiver know how many events there are, or send one that says that it was the last",
            )
        return self._arrived.popleft()

    def _ready(self) -> bool:
        self._take()
        return bool(self._arrived) or len(self._ended) == self._size - 1

    def _take(self) -> bool:
        """Take in what came, whenever the network moves, so that senders go on; whether that is over."""
        while len(self._arrived) < MANY and (delivery := self._port.receive(self._rank)) is not None:
            if delivery.kind == _DATA:
                self._arrived.append(Event(delivery.source, delivery.value[0]))
            else:
                self._ended.add(delivery.source)
        return self._closing

    def _close(self) -> None:
        # an attempt that was aborted has nobody to say goodbye to; one peer that is gone does not keep it from others
        for rank in range(self._size):
            if rank != self._rank:
                with contextlib.suppress(Twister2Error):
                    self._port.send(self._rank, rank, _END)
        self._closing = True
        with contextlib.suppress(Twister2Error):
            self._request.wait(CLOSING_S)


def _no_event(error: DeadlineError) -> DeadlineError:
    """The error of a wait that was too long: an event belongs to no step, so nobody is late in one."""
    late, where = error.details.get("late"), error.details.get("where")
    if late is None or where is None:
        return error
    parts = ["no event came in time"]
    if late:
        workers = ", ".join(map(str, late[:SHOWN])) + (", ..." if len(late) > SHOWN else "")
        parts.append(f"not used harp.events yet, which all members have to do once, has: worker {workers}")
    parts += [f"worker {worker} {text}" for worker, text in list(where.items())[:SHOWN]]
    error.why = "; ".join(parts)
    error.remedy = "see that somebody sends one, or give a longer deadline; 'twister2 status' shows what all do"
    return error
