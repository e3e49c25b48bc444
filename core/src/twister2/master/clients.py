"""The clients that are attached to a job: what they are told, and what is kept until the first one comes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from twister2.control.messages import weight_of
from twister2.control.ticket import new_key, same_secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

BACKLOG = 20_000
"""Messages kept for the first client that follows: more than the shortest pieces of output that fill the window."""
WINDOW = 8 << 20
"""About the bytes of output that may be on their way to a client, or wait for the first one."""
STALLED_S = 5.0
"""A client that takes nothing for so long (stopped, or cut off) holds up no worker: output is left out for it."""


class Post(Protocol):
    """Sends a message to a peer; never blocks."""

    def __call__(self, peer: bytes, kind: str, body: dict[str, Any], blobs: Sequence[bytes] = ()) -> None: ...


Told = tuple[str, dict[str, Any], Sequence[bytes]]


@attrs.define
class _Follower:
    """How far a client is with the output: bytes on their way to it, and left out for it.

    :ivar name: by which it is known when it comes again because its connection had broken. :ivar token: what it counts
        messages of: another life of the master has told it others. :ivar told: messages that it was told.
    :ivar unheard: the last of them, of which it has not said that they came. :ivar spoke_at: when it said so the last
        time.
    """

    name: str = ""
    token: str = attrs.field(factory=lambda: new_key()[:8])
    on_the_way: int = 0
    left_out: int = 0
    took_at: float = attrs.field(factory=time.monotonic)
    told: int = 0
    unheard: deque[Told] = attrs.field(factory=deque)
    spoke_at: float = attrs.field(factory=time.monotonic)

    @property
    def full(self) -> bool:
        return self.on_the_way > WINDOW

    @property
    def stalled(self) -> bool:
        return time.monotonic() - self.took_at > STALLED_S

    def hear(self, count: int, token: str) -> None:
        """It says how many messages have come to it."""
        self.spoke_at = time.monotonic()
        while token == self.token and self.unheard and self.told - len(self.unheard) < count:
            self.unheard.popleft()


class Clients:
    """Peers that have proved that they know the client key. Those that *follow* get what workers write."""

    def __init__(self, key: str, post: Post, *, expected: bool) -> None:
        """
        :param expected: one that follows is on its way: until it has come, workers wait for it as they do for one that
            is there. Else they are not held up, and what fills the window is left out.
        """
        self._key, self._post, self._expected = key, post, expected
        self._peers: set[bytes] = set()
        self._followers: dict[bytes, _Follower] = {}
        self.listeners: list[Callable[[str, dict[str, Any]], None]] = []
        """Hear everything the clients are told."""
        self._backlog: deque[Told] = deque()
        self._first = _Follower()
        """The first follower, as long as it has not come."""
        self.ever_came = False
        """Whether a client has ever followed."""
        self._ended = False

    def __contains__(self, peer: bytes) -> bool:
        return peer in self._peers

    def attach(
        self,
        peer: bytes,
        key: object,
        greeting: dict[str, Any],
        *,
        follow: bool,
        name: str = "",
        heard: int = 0,
        token: str = "",
    ) -> bool:
        """Let a peer in and tell it, if it follows, what it has missed; False when its key is wrong.

        :param name: chosen by a follower that comes again when its connection breaks.
        :param heard: how many messages have come to it. :param token: of which, as it was told when it came.
        """
        if not same_secret(key, self._key):
            self._post(peer, "refused", {"text": "this client does not have the job's key", "wait": False})
            return False
        before = next((old for old, follower in self._followers.items() if name and follower.name == name), None)
        self._peers.add(peer)
        if before is not None:
            follower = self._followers.pop(before)
            self._post(peer, "attached", {**greeting, "token": follower.token})
            self._peers.discard(before)
            self._resume(peer, follower, heard, token)
            return True
        follower = _Follower() if self.ever_came else self._first
        self._post(peer, "attached", {**greeting, "token": follower.token})
        if follow:
            self._followers[peer] = follower
            follower.name, follower.took_at, follower.spoke_at = name, time.monotonic(), time.monotonic()
            self.ever_came = True
            for told in self._backlog:
                self._say(peer, follower, told)
            self._backlog.clear()
        return True

    def _resume(self, peer: bytes, follower: _Follower, heard: int, token: str) -> None:
        """What was on its way to a follower when its connection broke is on its way again."""
        self._followers[peer] = follower
        follower.hear(heard, token)
        follower.took_at = time.monotonic()
        follower.on_the_way = sum(weight_of(kind, body) for kind, body, _ in follower.unheard)
        for kind, body, blobs in follower.unheard:
            self._post(peer, kind, body, blobs)

    def _say(self, peer: bytes, follower: _Follower, told: Told) -> None:
        follower.told += 1
        if follower.name:
            follower.unheard.append(told)
        self._post(peer, *told)

    def detach(self, peer: bytes) -> None:
        self._peers.discard(peer)
        self._followers.pop(peer, None)

    def took(self, peer: bytes, size: int, heard: int = 0, token: str = "") -> None:
        """A follower has taken in so much output, and so many messages in all: see :meth:`attach`."""
        follower = self._followers.get(peer)
        if follower is not None:
            follower.hear(heard, token)
            follower.on_the_way -= size
            follower.took_at = time.monotonic()
            if not follower.full:
                self._tell_left_out(peer, follower)

    def spoke(self, peer: bytes) -> None:
        """A follower says that it is there."""
        if (follower := self._followers.get(peer)) is not None:
            follower.hear(0, "")

    def waits_to_hear(self, silent_s: float) -> bool:
        """Whether a follower has not heard everything yet that has spoken in the last ``silent_s`` seconds."""
        now = time.monotonic()
        return any(each.unheard and now - each.spoke_at < silent_s for each in self._followers.values())

    @property
    def clogged(self) -> bool:
        """Whether workers should write no more for now: a follower that goes on taking output has enough."""
        return any(follower.full and not follower.stalled for follower in self._waited_for())

    def _waited_for(self) -> Iterable[_Follower]:
        if self._expected and not self.ever_came:
            return (self._first,)
        return self._followers.values()

    def tell(self, kind: str, body: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
        """Tell all clients, and keep it for the first that follows. Output goes to followers only. Behind the end of
        the job, which clients wait for, nothing is told.
        """
        if self._ended:
            return
        for listener in self.listeners:  # what they have to say of the end comes before it
            listener(kind, body)
        self._ended = kind == "ended"
        size, output = weight_of(kind, body), kind == "output"
        if not self.ever_came and kind != "progress" and self._has_room(self._first, size, output):
            self._keep(kind, body, blobs)
        for peer, follower in self._followers.items():
            if not size:
                self._tell_left_out(peer, follower)
            if self._has_room(follower, size, output):
                self._say(peer, follower, (kind, body, blobs))
        if not output:
            for peer in self._peers - self._followers.keys():
                self._post(peer, kind, body, blobs)

    def _keep(self, kind: str, body: dict[str, Any], blobs: Sequence[bytes]) -> None:
        """For the first follower. The oldest gives way where messages that count nothing are too many."""
        self._backlog.append((kind, body, blobs))
        if len(self._backlog) > BACKLOG:
            oldest, said, _ = self._backlog.popleft()
            size = weight_of(oldest, said)
            self._first.on_the_way -= size
            self._first.left_out += size

    def _has_room(self, follower: _Follower, size: int, output: bool) -> bool:
        """Whether a message goes to a follower. Output that does not is left out, for which there are the logs, and
        progress is made good by what comes after it.
        """
        held_up = self._expected or self.ever_came
        if size and follower.full and (follower.stalled or not held_up):
            follower.left_out += size if output else 0
            return False
        if not follower.full:
            follower.took_at = time.monotonic()  # it has had nothing to hurry for
        follower.on_the_way += size
        return True

    def _tell_left_out(self, peer: bytes, follower: _Follower) -> None:
        if follower.left_out:
            text = f"note: about {follower.left_out:,} bytes of output are left out here; see 'twister2 logs JOB'\n"
            follower.left_out = 0
            body = {"worker": -1, "stream": "log", "text": text}
            follower.on_the_way += weight_of("output", body)
            self._say(peer, follower, ("output", body, ()))
