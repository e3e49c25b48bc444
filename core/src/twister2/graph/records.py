"""Walking over the records of a batch so that an error can name the record, at no price while nothing fails.

A function written for one record is applied in a tight loop over an iterator that knows how far it is (the length hint
of Python's own iterators). Only when the loop raises is that asked; nothing is run twice::

    with walking(batch) as records:
        out = [function(record) for record in records]
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import attrs

from twister2.spec.batch import Batch
from twister2.spec.batch import records as records_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

_ATTRIBUTE = "_twister2_place"


@attrs.define
class Place:
    """Where in the user's data an exception was raised; carried by the exception.

    :ivar vertex: the vertex (or the part of a fused one) whose function raised, once known.
    :ivar index: index of the record in its batch, -1 when not known. :ivar record: its shortened ``repr``.
    :ivar before: records the task had handled before this batch. :ivar doing: the method of the vertex, once known.
    """

    vertex: str = ""
    index: int = -1
    record: str = ""
    before: int = -1
    doing: str = ""


def place_of(error: BaseException) -> Place | None:
    """What is known of where ``error`` was raised."""
    place = getattr(error, _ATTRIBUTE, None)
    return place if isinstance(place, Place) else None


def note_record(error: BaseException, index: int, record: Any) -> None:
    """Note that ``error`` was raised for the record at ``index`` of its batch. The first note stays."""
    if place_of(error) is None:
        _attach(error, Place(index=index, record=shorten(record)))


def note_vertex(error: BaseException, vertex: str, before: int, doing: str) -> None:
    """Note whose method ``doing`` raised ``error``, after ``before`` records. The first note stays."""
    place = place_of(error)
    if place is None:
        _attach(error, Place(vertex=vertex, before=before, doing=doing))
    elif not place.vertex:
        place.vertex, place.before, place.doing = vertex, before, doing


def _attach(error: BaseException, place: Place) -> None:
    try:
        setattr(error, _ATTRIBUTE, place)
    except (AttributeError, TypeError):
        return  # an exception class without a dict: the error is reported without the record


def shorten(value: Any, limit: int = 200) -> str:
    """``repr(value)`` on one line, cut to ``limit`` characters; never raises."""
    try:
        text = repr(value)
    except Exception as error:
        text = f"<{type(value).__name__} whose repr raised {type(error).__name__}>"
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


class walking:
    """Context manager over the records of a batch; an exception leaving it carries the record it was raised for."""

    __slots__ = ("_batch", "_iterator", "_length")

    def __init__(self, batch: Batch) -> None:
        records = records_of(batch)
        iterator = iter(records)
        if operator.length_hint(iterator, -1) < 0:
            # A generator cannot say how far it is: walk over a list of what it gives.
            records = list(iterator)
            iterator = iter(records)
        self._batch: Any = records
        self._iterator = iterator
        self._length = operator.length_hint(iterator, 0)

    def __enter__(self) -> Iterator[Any]:
        return self._iterator

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, (Exception, SystemExit)):
            # An exhausted iterator hints 0 too: the last record, which is where a lazy result of it may have raised.
            index = self._length - operator.length_hint(self._iterator, 0) - 1
            if 0 <= index < self._length:
                note_record(error, index, self._batch[index])
