"""The words of the data plane: kinds of header, and the items an operator delivers.

A *channel* is one ordered stream between two tasks, named by (attempt, group, step, edge, source task, target task).
It is FIFO and delivers exactly once, or it fails. Credits are per channel, never per connection.
"""

from __future__ import annotations

import enum
from typing import Any

import attrs

from twister2.spec.values import Value


class HeaderKind(enum.IntEnum):
    """What a message means. DATA carries a batch; the others are marks that travel in band, behind what was sent."""

    DATA = 0
    BARRIER = 1
    """A checkpoint barrier; ``value`` is the checkpoint's number."""
    WATERMARK = 2
    """Event time has reached ``value`` (an int, nanoseconds since the epoch) on this channel."""
    IDLE = 3
    """The source has nothing to send for now: its watermark does not hold back others."""
    FLUSH = 4
    """An aggregating operator on a stream emits what came since the last flush mark; ``value`` is its number."""
    END = 5
    """No more on this channel."""
    ABORT = 6
    """The step was aborted; ``value`` is the reason. Between network modules only, never delivered as an item: the
    receiver raises. The core's own network takes it but sends none: its aborts go through the job master and the step
    board, which reach workers that wait for nobody, too.
    """
    CREDIT = 7
    """Between network modules only: the receiver grants room; ``value`` is ``(messages, bytes)``."""


@attrs.frozen(eq=False, repr=False)
class Item(Value):
    """What a receiver gets: a batch or a mark, with where it came from.

    :ivar kind: DATA or a mark (never ABORT or CREDIT).
    :ivar source: index of the source task, or -1 when the operator merged several.
    :ivar target: index of the target task on this worker.
    :ivar value: the batch (an operator's single result is a batch of one record), or the mark's value.
    """

    kind: HeaderKind
    source: int
    target: int
    value: Any = None
