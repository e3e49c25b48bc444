"""What came from one peer: the check that nothing is missing, and the queue until it is read."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING

from twister2.spec.errors import NetworkError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .config import TcpConfig


class Incoming:
    """Messages from one peer, in order. Bounded by the peer's window: it sends no more before it is told of reading."""

    def __init__(self, peer: int, config: TcpConfig) -> None:
        self._peer = peer
        self._queue: collections.deque[tuple[memoryview, ...]] = collections.deque()
        self._arrived = 0
        self._told_messages = self._told_bytes = 0
        self._tell_messages = config.window_messages // 4
        self._tell_bytes = config.window_bytes // 4
        self.read_messages = self.read_bytes = 0

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, first: int, messages: Sequence[tuple[memoryview, ...]]) -> int:
        """Queue consecutive messages, of which the first has the number ``first``; how many were no duplicates.

        :raises NetworkError: messages before them are missing.
        """
        if first > self._arrived + 1:
            self.check(first - 1)
        new = messages[self._arrived + 1 - first :]
        self._arrived += len(new)
        self._queue.extend(new)
        return len(new)

    def arrived(self, number: int) -> bool:
        """Count a message that is kept elsewhere; whether it is no duplicate. :meth:`used` says that it was read.

        :raises NetworkError: messages before it are missing.
        """
        if number > self._arrived + 1:
            self.check(number - 1)
        if number <= self._arrived:
            return False
        self._arrived = number
        return True

    def used(self, n_bytes: int) -> bool:
        """A message that was kept elsewhere was read; whether that is :attr:`worth_telling`."""
        self.read_messages = messages = self.read_messages + 1
        self.read_bytes = read = self.read_bytes + n_bytes
        return messages - self._told_messages >= self._tell_messages or read - self._told_bytes >= self._tell_bytes

    def check(self, sent: int) -> None:
        """Compare with the number of the last message the peer has sent.

        :raises NetworkError: some are missing.
        """
        if sent > self._arrived:
            raise NetworkError(
                f"messages {self._arrived + 1} to {sent} from worker {self._peer} were lost",
                why="the connection broke while they were under way",
                remedy="start the job again; if it happens often, look for what closes connections between the hosts",
            )

    def get(self) -> tuple[memoryview, ...]:
        """The oldest message."""
        frames = self._queue.popleft()
        self.read_messages += 1
        self.read_bytes += sum(map(len, frames))
        return frames

    @property
    def state(self) -> str:
        """What has come, and how much of it waits to be read, in words."""
        return f"{self._arrived} came, {self._arrived - self.read_messages} of them not read"

    @property
    def worth_telling(self) -> bool:
        """Whether so much was read since the peer was told that it should be told without waiting for a message."""
        return (
            self.read_messages - self._told_messages >= self._tell_messages
            or self.read_bytes - self._told_bytes >= self._tell_bytes
        )

    def told(self) -> tuple[int, int]:
        """What a header tells the peer: messages and bytes read, in all."""
        self._told_messages, self._told_bytes = self.read_messages, self.read_bytes
        return self.read_messages, self.read_bytes
