"""Alignment of marks: a mark goes on once it has come over all inputs.

A BARRIER or FLUSH closes its input until it has come over all others (what lies behind it belongs to the time after).
WATERMARKs advance to the smallest of all inputs; IDLE inputs do not hold them back. An input that has ended counts as
having brought every mark.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from twister2.spec.channel import HeaderKind

if TYPE_CHECKING:
    from collections.abc import Iterable

_CLOSING = (HeaderKind.BARRIER, HeaderKind.FLUSH)

Mark = tuple[HeaderKind, Any]


class Aligner:
    """The inputs of one receiver.

    :param inputs: numbers of the inputs.
    """

    __slots__ = ("_closing", "_ended", "_idle", "_inputs", "_reached", "_told", "blocked", "ready")

    def __init__(self, inputs: Iterable[int]) -> None:
        self._inputs = frozenset(inputs)
        self._ended: set[int] = set()
        self._idle: set[int] = set()
        self._reached: dict[int, int] = {}
        self._told: int | None = None
        self._closing: Mark | None = None
        self.blocked: set[int] = set()
        """Inputs from which nothing may be taken for now."""
        self.ready: deque[Mark] = deque()
        """Marks to hand on, in order; END is the last."""
        if not self._inputs:
            self.ready.append((HeaderKind.END, None))

    def mark(self, source: int, kind: HeaderKind, value: Any) -> None:
        """A mark came over one input."""
        if kind in _CLOSING:
            self.blocked.add(source)
            self._closing = (kind, value)
            self._close()
        elif kind == HeaderKind.WATERMARK:
            self._idle.discard(source)
            self._reached[source] = value
            self._advance()
        elif kind == HeaderKind.IDLE:
            self._idle.add(source)
            self._advance()
            if len(self._idle | self._ended) == len(self._inputs):
                self.ready.append((HeaderKind.IDLE, value))
        elif kind == HeaderKind.END:
            self._ended.add(source)
            self._close()
            self._advance()
            if self._ended == self._inputs:
                self.ready.append((HeaderKind.END, None))

    def active(self, source: int) -> None:
        """A record came over an input: it is no longer idle."""
        if self._idle:
            self._idle.discard(source)

    @property
    def ended(self) -> bool:
        """Whether all inputs have ended (END may still be in :attr:`ready`)."""
        return self._ended == self._inputs

    def _close(self) -> None:
        if self._closing is not None and self.blocked | self._ended == self._inputs:
            self.ready.append(self._closing)
            self._closing = None
            self.blocked = set()

    def _advance(self) -> None:
        holding = self._inputs - self._idle - self._ended
        if not holding or any(source not in self._reached for source in holding):
            return
        lowest = min(self._reached[source] for source in holding)
        if self._told is None or lowest > self._told:
            self._told = lowest
            self.ready.append((HeaderKind.WATERMARK, lowest))
