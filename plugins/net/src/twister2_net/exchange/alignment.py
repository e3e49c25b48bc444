"""Alignment of marks: a mark goes on once it has come over all inputs.

A BARRIER or FLUSH closes its input until it has come over all others (what lies behind it belongs to the time after).
WATERMARKs advance to the smallest of all inputs; IDLE inputs do not hold them back. An input that has ended counts as
having brought every mark. Closing marks must come in the same order over all inputs: anything else is an error, because
no order would be right for all of them.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from twister2.spec.channel import HeaderKind
from twister2.spec.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Iterable

_CLOSING = (HeaderKind.BARRIER, HeaderKind.FLUSH)

Mark = tuple[HeaderKind, Any]


class Aligner:
    """The inputs of one receiver.

    :param inputs: numbers of the inputs. :param label: of the operator, for messages.
    """

    __slots__ = ("_closing", "_ended", "_idle", "_inputs", "_label", "_reached", "_told", "blocked", "ready")

    def __init__(self, inputs: Iterable[int], label: str = "an operator") -> None:
        self._label = label
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
        """A mark came over one input, which is not among :attr:`blocked`.

        :raises OperatorError: another input has brought another closing mark first.
        """
        if kind in _CLOSING:
            if self._closing is not None and self._closing != (kind, value):
                raise self._differ(source, (kind, value))
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
            elif source not in self._idle and self._ended | self._idle == self._inputs:
                self.ready.append((HeaderKind.IDLE, None))

    def active(self, source: int) -> None:
        """A record came over an input: it is no longer idle."""
        if self._idle:
            self._idle.discard(source)

    @property
    def ended(self) -> bool:
        """Whether all inputs have ended (END may still be in :attr:`ready`)."""
        return self._ended == self._inputs

    @property
    def open(self) -> frozenset[int]:
        """The inputs that have not ended."""
        return self._inputs - self._ended

    def _differ(self, source: int, mark: Mark) -> OperatorError:
        first, second = self._closing or mark, mark
        return OperatorError(
            f"{self._label} got {second[0].name} {second[1]} over input {source} "
            f"where inputs {sorted(self.blocked)} brought {first[0].name} {first[1]}",
            why="barriers and flush marks are aligned over all inputs, so all must send the same in the same order",
            remedy="send the same BARRIER and FLUSH marks, with the same values, from all sources",
            where=self._label,
        )

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
