"""What the master knows of each slot."""

from __future__ import annotations

from typing import Any, Literal

import attrs

Phase = Literal["absent", "joined", "ended", "lost"]


@attrs.define
class Slot:
    """One place in the allocation.

    :ivar peer: connection of its supervisor. :ivar phase: ``absent`` (not joined yet), ``joined`` (its user process
        runs or waits for the start), ``ended`` (the user process ended, the supervisor lives), ``lost`` (the supervisor
        is gone).
    :ivar key: public CURVE key of this attempt's user process. :ivar heard: monotonic time of the last message.
    :ivar gone: nobody answers on its connection any more. :ivar returned: the function returned.
    :ivar last: the latest step by group, known when the function has returned.
    :ivar steps: noted steps as ``{(group, step): (inside, kind, shape, line)}``.
    """

    number: int
    peer: bytes = b""
    phase: Phase = "absent"
    key: str = ""
    facts: dict[str, Any] = attrs.field(factory=dict)
    heard: float = 0.0
    steps: dict[tuple[int, int], tuple[bool, str, str, str]] = attrs.field(factory=dict)
    last: dict[int, int] = attrs.field(factory=dict)
    waits_for: str = ""
    memory: int = 0
    returned: bool = False
    tail: list[str] = attrs.field(factory=list)
    gone: bool = False

    def reset(self) -> None:
        """Forget the attempt that is over."""
        self.steps, self.last, self.waits_for, self.returned, self.tail, self.gone = {}, {}, "", False, [], False

    def note_steps(self, entries: list[list[Any]]) -> None:
        self.steps = {(entry[0], entry[1]): (entry[2], entry[3], entry[4], entry[5]) for entry in entries}

    def last_step(self, group: int) -> int:
        """Its latest step of a group: as it said when it returned (notes are few), else as noted."""
        noted = (step for number, step in self.steps if number == group)
        return max(self.last.get(group, 0), *noted, 0)

    def current(self) -> tuple[int, int, tuple[bool, str, str, str]] | None:
        """The step it is inside of, if any: group, number, entry."""
        inside = [(group, step, entry) for (group, step), entry in self.steps.items() if entry[0]]
        return max(inside, key=lambda item: item[1]) if inside else None
