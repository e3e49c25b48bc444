"""What the master knows of each slot."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

import attrs

from twister2.spec.rm import ResourceGroup
from twister2.worker.board import LIMITED, TEXT_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Said = tuple[bool, str, str, str]
"""What a worker says of a step: inside, kind, shape, line."""

Phase = Literal["absent", "standby", "joined", "ended", "lost"]

_LIMIT = re.compile(rf" \([^(]*{re.escape(LIMITED)}$")


@attrs.frozen
class Note:
    """A call site that a worker has noted: every ``stride``-th step from ``first`` to ``last``.

    :ivar inside: whether the worker is in the last one.
    """

    group: int
    last: int
    inside: bool
    kind: str
    shape: str
    line: str
    first: int
    stride: int = 1

    def has(self, step: int) -> bool:
        """Whether a step of its group is one of these."""
        return self.first <= step <= self.last and (step - self.first) % self.stride == 0

    def said(self, step: int) -> Said:
        """What it says of one of its steps."""
        return (self.inside and step == self.last, self.kind, self.shape, self.line)

    def is_named(self, text: str) -> bool:
        """Whether what a worker says that it waits for is of its last step."""
        text = _LIMIT.sub("", text)
        begin = f"{self.kind}, step {self.last}"
        if text == begin or text.startswith(f"{begin}:") or text == self.kind or text.startswith(f"{self.kind} '"):
            return True
        if self.kind == "exchange_objects":
            return text == (self.shape or "everybody's object")
        if self.kind == "broadcast_object":
            what, _, root = self.shape.rpartition("from ")
            return text == f"{what.strip() or 'an object'} from worker {root}"
        return False


@attrs.define
class Slot:
    """One place in the allocation.

    :ivar number: the worker's id in the attempt. :ivar place: the slot's number in the allocation.
    :ivar resources: its group. :ivar peer: connection of its supervisor.
    :ivar phase: ``absent`` (not joined yet), ``standby`` (its supervisor waits for the next attempt), ``joined`` (its
        user process runs or waits for the start), ``ended`` (the user process ended, the supervisor lives), ``lost``
        (the supervisor is gone).
    :ivar key: public CURVE key of this attempt's user process. :ivar heard: monotonic time of the last message.
    :ivar leaves: its supervisor has said goodbye unasked: monotonic time until which its manager may say why.
    :ivar gone: nobody answers on its connection any more. :ivar returned: the function returned.
    :ivar beats: how often its board was seen.
    :ivar last: the latest step by group, known when the function has returned.
    :ivar notes: noted steps by group. :ivar progress: what it last reported: done, total, unit; records, if it counts
        them. :ivar ways: what lies in its ways to others, when it has waited long.
    """

    number: int
    peer: bytes = b""
    phase: Phase = "absent"
    key: str = ""
    facts: dict[str, Any] = attrs.field(factory=dict)
    heard: float = 0.0
    notes: dict[int, list[Note]] = attrs.field(factory=dict)
    last: dict[int, int] = attrs.field(factory=dict)
    waits_for: str = ""
    leaves: float = 0.0
    ways: str = ""
    memory: int = 0
    beats: int = 0
    returned: bool = False
    tail: list[str] = attrs.field(factory=list)
    gone: bool = False
    progress: dict[str, Any] = attrs.field(factory=dict)
    place: int = attrs.field(default=attrs.Factory(lambda slot: slot.number, takes_self=True))
    resources: ResourceGroup = attrs.field(factory=lambda: ResourceGroup("worker", 1))

    @property
    def group(self) -> str:
        """Name of its group."""
        return self.resources.name

    def reset(self) -> None:
        """Forget the attempt that is over."""
        self.notes, self.last, self.waits_for, self.returned, self.tail, self.gone = {}, {}, "", False, [], False
        self.progress, self.ways, self.leaves = {}, "", 0.0

    def note_steps(self, entries: list[list[Any]]) -> None:
        notes: dict[int, list[Note]] = {}
        for group, last, inside, kind, shape, line, *more in entries:
            first, stride = more or (last, 1)
            notes.setdefault(group, []).append(Note(group, last, inside, kind, shape, line, first, stride))
        self.notes = notes

    def note_progress(self, body: Mapping[str, Any]) -> None:
        """Keep what a report says of how far it is: a report of counters says nothing of done, and the other way."""
        self.progress.update({name: body[name] for name in ("done", "total", "unit") if name in body})
        counts = [values.get("records", 0) for values in (body.get("counters") or {}).values()]
        if counts and not body.get("final"):
            self.progress["records"] = int(max(counts))

    def latest(self) -> Note | None:
        """The latest step of the group of all that it has noted, whether it is in it or not; else of any group."""
        notes = self.notes.get(0) or [note for notes in self.notes.values() for note in notes]
        return max(notes, key=lambda note: note.last, default=None)

    def said(self, group: int, step: int) -> Said | None:
        """What it says of a step, if it has noted it."""
        for note in self.notes.get(group, ()):
            if note.has(step):
                return note.said(step)
        return None

    def last_step(self, group: int) -> int:
        """Its latest step of a group: as it said when it returned (notes are few), else as noted."""
        noted = (note.last for note in self.notes.get(group, ()))
        return max(self.last.get(group, 0), *noted, 0)

    def inside(self) -> list[Note]:
        """The steps that it is in: one of a group at most, but for calls that were started and not waited for."""
        return [note for notes in self.notes.values() for note in notes if note.inside]

    def waits_in(self) -> Note | None:
        """The step that it waits in, as what it says that it waits for tells; None when it does not wait, or when that
        is not known for certain.
        """
        if not self.waits_for or len(self.waits_for.encode()) >= TEXT_BYTES - 4:  # cut
            return None
        found = [note for note in self.inside() if note.is_named(self.waits_for)]
        return found[0] if len(found) == 1 else None

    def current(self) -> tuple[int, int, Said] | None:
        """The step it is inside of, if any: group, number, what it says of it. Of several the one that it waits in; the
        numbers of steps of different groups say nothing of their order.
        """
        inside = self.inside()
        if not inside:
            return None
        note = self.waits_in() or max(inside, key=lambda note: note.last)
        return note.group, note.last, note.said(note.last)


def may_be_lost(slots: Iterable[Slot], silent_s: float, now: float) -> bool:
    """Whether a supervisor is silent: it beats again, or is lost soon, which is why others could not reach it."""
    return any(now - slot.heard > silent_s and not slot.gone and slot.phase in ("joined", "ended") for slot in slots)


def slots_of(groups: Iterable[ResourceGroup]) -> list[Slot]:
    """The slots of a job at its start, numbered through its groups."""
    each = [group for group in groups for _ in range(group.count)]
    return [Slot(number, resources=group) for number, group in enumerate(each)]
