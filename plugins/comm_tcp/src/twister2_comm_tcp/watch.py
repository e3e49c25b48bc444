"""Whether the host of a peer that is silent can still be reached.

A peer may be silent because its program computes, or because its process is stopped: that is no error. Its kernel
accepts a connection all the same. When it does not, the network between is cut, or nobody has the address any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .address import endpoint
from .knock import Knock

if TYPE_CHECKING:
    from .address import Target

FIRST_S = 2.0
"""A peer is knocked at when it is silent for so long, and again each time its silence has doubled: the listeners of a
stopped process take a limited number of connections."""
AGAIN_S = 1.0
"""How long after an attempt that failed at once (no route) the next one follows."""


class Watch:
    """Watches one peer; ask :meth:`gone` now and then while it is silent."""

    def __init__(self, target: Target, patience_s: float) -> None:
        self._target, self._patience_s = target, patience_s
        self._knock: Knock | None = None
        self._after = FIRST_S
        self._begun = self._failed = 0.0
        self._refused = False

    def gone(self, now: float, silent_s: float) -> str:
        """Why the peer cannot be reached any more; empty while it may be.

        :param now: monotonic time. :param silent_s: for how long nothing has come from the peer.
        """
        if self._knock is None:
            if not self._begun:
                if silent_s < self._after:
                    return ""
                self._begun, self._refused = now, False
            elif now - self._failed < AGAIN_S:
                return ""
            self._knock = Knock(self._target)
        answer = self._knock.poll()
        if answer is not None:
            self._knock.close()
            self._refused, self._knock = self._knock.refused, None
            if answer:
                self._begun = 0.0
                self._after = 2 * silent_s
                return ""
            self._failed = now
        if now - self._begun < self._patience_s:
            return ""
        why = "nobody listens there any more" if self._refused else "the network between is cut"
        return f"{endpoint(self._target)} has not answered for {now - self._begun:.0f} s: {why}"

    def reset(self) -> None:
        """The peer was heard."""
        self.close()
        self._after, self._begun = FIRST_S, 0.0

    def close(self) -> None:
        """Give up."""
        if self._knock is not None:
            self._knock.close()
            self._knock = None
