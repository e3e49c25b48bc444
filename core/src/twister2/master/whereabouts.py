"""Who is late in a step, and where each of them is: asked by a worker whose wait has run out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from twister2.master.steps import said_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twister2.control.messages import Message
    from twister2.master.clients import Post
    from twister2.master.slots import Slot
    from twister2.master.steps import Groups


def whereabouts(slots: Sequence[Slot], groups: Groups, asker: int, group: int, step: int) -> dict[str, Any]:
    """As far as the latest beats tell.

    :returns: ``late``: members that have not entered the step; ``where``: a text for each of them, or for all other
        members when none of them is late.
    """
    members = (groups.of(group) if group else range(len(slots))) or range(len(slots))
    others = [slots[number] for number in sorted(members) if number != asker]
    late = [slot for slot in others if slot.last_step(group) < step]
    where = {slot.number: _where(slot, groups, group) for slot in late or others}
    return {"late": [slot.number for slot in late], "where": where}


def _where(slot: Slot, groups: Groups, group: int) -> str:
    if slot.returned:
        return "has returned from the program"
    inside = slot.current()
    if inside is not None:
        number, step, said = inside
        return f"is in {said_text(said)} (step {step}{groups.text(number)})"
    if slot.phase != "joined":
        return "is gone" if slot.phase == "lost" else "has ended"
    last = slot.last_step(group)
    before = slot.said(group, last)
    if before is None:
        return "is in no step, and has been in none of this group"
    return f"is in no step; its last one of this group was {last}, {said_text(before)}"


class Whereabouts:
    """Answers requests of workers."""

    def __init__(self, slots: Sequence[Slot], groups: Callable[[], Groups], post: Post) -> None:
        self._slots, self._groups, self._post = slots, groups, post

    def asked(self, slot: Slot, message: Message) -> None:
        """A request with ``group`` and ``step``; the answer is JSON."""
        about = message.body["body"]
        found = whereabouts(self._slots, self._groups(), slot.number, about["group"], about["step"])
        answer = {"request": message.body["request"], "attempt": message.body["attempt"], "found": True}
        self._post(slot.peer, "reply", answer, [json.dumps(found).encode()])
