"""A client's connection to a master in the allocation: made anew when it breaks, or when the resource manager has
started the master again, wherever that is then.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from twister2.control.channel import Dialer
from twister2.control.messages import TOLD
from twister2.control.ticket import new_key
from twister2.spec.errors import MasterLostError, NetworkError, ResourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twister2.control.messages import Message

PING_S = 2.0
"""A master that is silent for so long is asked whether it is there,"""
ABSENT_S = 6.0
"""and looked for when it has said nothing for so long."""
LOOK_S = 1.0
"""Time between two looks."""
HEARD_S = 1.0
"""Time between two words to the master of what has come."""
LAST_WORD_S = 1.0
"""How long the last of these words may take to go out: the master waits for it."""
ANSWER_S = 3.0


class ReturningConnection:
    """As a :class:`~twister2.control.channel.Dialer` to the job's master, whichever life of it that is.

    The master keeps what it says until it is heard, and says it again when the connection had broken. What it said to
    nobody before it was started again is not heard; its later life tells first what the job does now.
    """

    def __init__(self, dialer: Dialer, find: Callable[[], Sequence[str]], public: str, client_key: str) -> None:
        """
        :param dialer: not attached yet. :param find: addresses of the master as they are now; closes the way to those
            before. May raise ResourceError.
        :param public: the master's key.
        """
        self._dialer, self._find, self._public, self._client_key = dialer, find, public, client_key
        self._name, self._token = new_key()[:16], ""
        self._count = self._said = 0
        """Messages that the master keeps until they are heard: so many have come, and so many are known to have."""
        self._patience_s = ABSENT_S
        self._heard = self._said_at = time.monotonic()
        self._pinged = self._looked = 0.0
        self._greeting: Message | None = None
        self._is_attached = False
        dialer.send("attach", self._attach())

    def _attach(self) -> dict[str, Any]:
        return {"client_key": self._client_key, "follow": True, "name": self._name, **self._so_far()}

    def _so_far(self) -> dict[str, Any]:
        return {"heard": self._count, "token": self._token}

    @property
    def absent_s(self) -> float:
        """How long nobody has answered; 0 while it does."""
        silent = time.monotonic() - self._heard
        return silent if silent > self._patience_s else 0.0

    def send(self, kind: str, body: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
        """Queue a message; lost when the master ends before it has taken it."""
        self._dialer.send(kind, body, blobs)

    def receive(self, timeout_s: float) -> Message | None:
        """The next message, or None when none comes in time."""
        if self._greeting is not None:
            greeting, self._greeting = self._greeting, None
            return self._noted(greeting)
        message = self._dialer.receive(timeout_s)
        if message is not None and message.kind == "refused" and self._token:
            self._attach_anew()
            return None
        if message is not None:
            self._heard = time.monotonic()
            return None if message.kind == "pong" else self._noted(message)
        self._say_heard()
        now = time.monotonic()
        if now - max(self._heard, self._pinged) > PING_S:
            self._pinged = now
            with contextlib.suppress(MasterLostError):
                self._dialer.send("ping", {})
        if self.absent_s and now - self._looked > LOOK_S:
            self._look()
            self._looked = time.monotonic()
        return None

    def _attach_anew(self) -> None:
        """The socket has connected anew, by itself, and is not known there. All that it says until it is attached is
        refused, each message; where that goes on the master is looked for.
        """
        if self._is_attached:
            self._is_attached, self._heard = False, time.monotonic()
            self._dialer.send("attach", self._attach())

    def _noted(self, message: Message) -> Message:
        self._is_attached = self._is_attached or message.kind == "attached"
        if message.kind == "attached" and message.body["token"] != self._token:  # by another life of it, say
            self._count, self._said, self._token = 0, 0, message.body["token"]
        elif message.kind == "attached":  # it was there all the time: slow, or busy with a large message
            self._patience_s *= 2
        elif message.kind in TOLD:
            self._count += 1
            self._patience_s = ABSENT_S
            if message.kind == "ended" or time.monotonic() - self._said_at > HEARD_S:
                self._say_heard()
        return message

    def _say_heard(self) -> None:
        if self._said < self._count:
            self._said, self._said_at = self._count, time.monotonic()
            with contextlib.suppress(MasterLostError):
                self._dialer.send("took", {"size": 0, **self._so_far()})

    def _look(self) -> None:
        with contextlib.suppress(ResourceError, MasterLostError, NetworkError):
            dialer = Dialer(self._find(), self._public, deadline_s=ANSWER_S)
            try:
                self._greeting = dialer.request("attach", self._attach(), ("attached", "refused"), ANSWER_S)
            except BaseException:
                dialer.close()
                raise
            self._dialer.close()
            self._dialer, self._heard = dialer, time.monotonic()

    def close(self, linger_s: float = 0.0) -> None:
        """
        :param linger_s: how long what was sent may take to go out.
        """
        self._dialer.close(max(linger_s, LAST_WORD_S))
