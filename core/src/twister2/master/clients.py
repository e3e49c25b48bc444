"""The clients that are attached to a job: what they are told, and what is kept until the first one comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from twister2.control.ticket import same_secret

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BACKLOG = 10_000
"""Messages kept for the first client that attaches."""


class Post(Protocol):
    """Sends a message to a peer; never blocks."""

    def __call__(self, peer: bytes, kind: str, body: dict[str, Any], blobs: Sequence[bytes] = ()) -> None: ...


class Clients:
    """Peers that have proved that they know the client key."""

    def __init__(self, key: str, post: Post) -> None:
        self._key, self._post = key, post
        self._peers: set[bytes] = set()
        self.listener: Callable[[str, dict[str, Any]], None] | None = None
        """Hears everything the clients are told."""
        self._backlog: list[tuple[str, dict[str, Any], Sequence[bytes]]] | None = []

    @property
    def ever_came(self) -> bool:
        """Whether a client has ever attached."""
        return self._backlog is None

    def __contains__(self, peer: bytes) -> bool:
        return peer in self._peers

    def attach(self, peer: bytes, key: object, greeting: dict[str, Any]) -> bool:
        """Let a peer in and tell it what it has missed; False when its key is wrong."""
        if not same_secret(key, self._key):
            self._post(peer, "refused", {"text": "this client does not have the job's key", "wait": False})
            return False
        self._peers.add(peer)
        backlog, self._backlog = self._backlog, None
        self._post(peer, "attached", greeting)
        for kind, body, blobs in backlog or ():
            self._post(peer, kind, body, blobs)
        return True

    def detach(self, peer: bytes) -> None:
        self._peers.discard(peer)

    def tell(self, kind: str, body: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
        """Tell all clients, or keep it for the first one."""
        if self.listener is not None:
            self.listener(kind, body)
        if self._backlog is not None and len(self._backlog) < BACKLOG:
            self._backlog.append((kind, body, blobs))
        for peer in self._peers:
            self._post(peer, kind, body, blobs)
