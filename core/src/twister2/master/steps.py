"""Seeing that the members of a group do not do the same thing: other fingerprints, or one has returned."""

from __future__ import annotations

import re
import sys
import time
from typing import TYPE_CHECKING

from twister2.spec.errors import NetworkError, StepMismatchError
from twister2.worker.differences import remedy
from twister2.worker.groups import named, of_group

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2.master.slots import Note, Said, Slot
    from twister2.spec.errors import Twister2Error


GROUPS = 10_000
"""Sub-groups that are known at a time."""
MANY, PAUSE_S = 64, 0.001
"""Of more workers than so many, what they noted is compared only when so many seconds for each have passed."""

_TOLD = 3
"""Different steps of others that are told of when a worker is gone."""

_PEER = re.compile(r"worker (\d+) cannot be reached")
_UNKNOWN: tuple[tuple[int, ...], frozenset[int]] = ((), frozenset())


class Groups:
    """Who is in which sub-group. A program that makes groups all the time does not fill the memory: the oldest are
    forgotten, unless somebody's latest steps are theirs.
    """

    def __init__(self) -> None:
        self._members: dict[int, tuple[tuple[int, ...], frozenset[int]]] = {}
        self._same: dict[tuple[int, ...], tuple[tuple[int, ...], frozenset[int]]] = {}
        self._lines: dict[int, str] = {}
        self.next_look = 0.0
        """When what many workers noted is compared again."""

    def add(self, number: int, members: Sequence[int], slots: Sequence[Slot], line: str = "") -> None:
        """A member says who is in a group, in the group's order.

        :param line: where the program made it.
        :raises NetworkError: other workers have a group of that number, too.
        """
        order = tuple(members)
        if self.order(number) not in (order, ()):
            raise NetworkError(
                f"the groups of {named(self.order(number))} and of {named(order)} have the same number",
                why=f"groups made without communication are numbered by a hash of their members: {number} for both",
                remedy="make one of them by split(), on all workers",
                details={"number": number},
            )
        self._members[number] = self._same.setdefault(order, (order, frozenset(order)))
        self._lines.setdefault(number, line)
        if len(self._members) > GROUPS:
            used = {group for slot in slots for group in slot.notes}
            oldest = list(self._members)[: GROUPS // 10]
            for old in oldest:
                if old not in used:
                    del self._members[old], self._lines[old]
            self._same = {kept[0]: kept for kept in self._members.values()}

    def of(self, number: int) -> frozenset[int]:
        """The members of a group; none when it is not known (yet)."""
        return self._members.get(number, _UNKNOWN)[1]

    def order(self, number: int) -> tuple[int, ...]:
        """The same by rank."""
        return self._members.get(number, _UNKNOWN)[0]

    def text(self, number: int) -> str:
        """What follows "step 3": nothing for the group of all, else its members, and what tells it from other groups of
        the same ones.
        """
        order = self.order(number)
        alike = [other for other, known in self._members.items() if known[0] == order] if order else []
        if len(alike) < 2:
            return of_group(number, order)
        return of_group(number, order, alike.index(number) + 1, self._lines[number])

    def __len__(self) -> int:
        return len(self._members)


def not_in_step(slots: Sequence[Slot], groups: Groups, note: Note) -> list[int]:
    """Members of a group that have not entered the step that a worker is in; worker id = slot number."""
    members = groups.of(note.group) if note.group else range(len(slots))
    return [number for number in sorted(members) if slots[number].last_step(note.group) < note.last]


def find_mismatch(slots: Sequence[Slot], groups: Groups) -> StepMismatchError | None:
    """Compare what the workers noted; worker id = slot number. Asked at every beat: of many workers it looks now and
    then only, since that takes milliseconds, and finds at a later beat what it has not looked for at this one.

    :param groups: the sub-groups; group 0 (all) need not be among them.
    """
    if len(slots) > MANY:
        now = time.monotonic()
        if now < groups.next_look:
            return None
        groups.next_look = now + PAUSE_S * len(slots)
    return _different(slots, groups) or _waits_for_returned(slots, groups)


def find_left_out(slots: Sequence[Slot], groups: Groups) -> StepMismatchError | None:
    """All have returned: a step that one member entered and another did not. What was sent to that one is lost."""
    ahead: dict[int, Slot] = {}
    for slot in slots:
        for group, step in slot.last.items():
            if group not in ahead or step > ahead[group].last[group]:
                ahead[group] = slot
    for group, first in sorted(ahead.items()):
        step = first.last[group]
        for number in groups.of(group) if group else range(len(slots)):
            behind = slots[number].last_step(group)
            if behind < step:
                said = first.said(group, step)
                return StepMismatchError(
                    f"worker {number} has returned without a step that worker {first.number} was in",
                    why=f"worker {first.number} was in step {step}{groups.text(group)}"
                    f"{f', {said_text(said)}' if said else ''}; worker {number} ended after step {behind}",
                    remedy="let all workers make the same collective calls before they return",
                    details={"workers": [number, first.number], "step": step, "group": group},
                )
    return None


def unreachable(error: Twister2Error, by: Slot, slots: Sequence[Slot]) -> Twister2Error:
    """A worker could not reach another one: when that one has returned, this is why."""
    found = _PEER.search(error.what)
    number = error.details.get("peer", int(found[1]) if found else -1)
    if number == by.number or number not in range(len(slots)) or not slots[number].returned:
        return error
    inside = by.current()
    where = f" in step {inside[1]}, {said_text(inside[2])}" if inside else ""
    return StepMismatchError(
        f"worker {number} has returned while worker {by.number} waits for it",
        why=f"worker {by.number} needed it{where}: {error.what}, {error.why}",
        remedy="let all workers make the same collective calls, and complete them, before they return",
        details={"workers": [number, by.number], "cause": error.code},
    )


def _different(slots: Sequence[Slot], groups: Groups) -> StepMismatchError | None:
    seen: dict[tuple[int, int], tuple[int, Said]] = {}
    inside: set[tuple[int, int]] = set()
    for slot in slots:
        for notes in slot.notes.values():
            for note in notes:
                key, said = (note.group, note.last), note.said(note.last)
                if note.inside:
                    inside.add(key)
                first = seen.setdefault(key, (slot.number, said))
                if first[1][1:3] != said[1:3]:
                    return _other_step(key, groups, first[0], first[1], slot.number, said)
    for key in inside:  # others may have passed what these are in
        number, mine = seen[key]
        for slot in slots:
            theirs = slot.said(*key)
            if theirs is not None and theirs[1:3] != mine[1:3]:
                return _other_step(key, groups, number, mine, slot.number, theirs)
    return None


def _other_step(
    key: tuple[int, int],
    groups: Groups,
    one: int,
    entry: Said,
    other: int,
    other_entry: Said,
) -> StepMismatchError:
    return StepMismatchError(
        f"workers {one} and {other} are in different collective steps",
        why=f"step {key[1]}{groups.text(key[0])} is {said_text(entry)} on worker {one}, "
        f"but {said_text(other_entry)} on worker {other}",
        remedy=remedy(entry[1:], other_entry[1:]),
        details={"workers": [one, other], "step": key[1], "group": key[0]},
    )


def _waits_for_returned(slots: Sequence[Slot], groups: Groups) -> StepMismatchError | None:
    returned = [slot for slot in slots if slot.returned]
    if not returned:
        return None
    behind: dict[int, int] = {}
    """By group the earliest step with which a member has returned."""
    for other in slots:
        for note in () if other.returned else other.inside():
            group = note.group
            if group not in behind:
                # A member's note may come before the message that says who is in the group: then nothing can be said.
                members = [slot for slot in returned if not group or slot.number in groups.of(group)]
                behind[group] = min((slot.last_step(group) for slot in members), default=sys.maxsize)
            if note.last > behind[group]:
                gone = next(
                    slot
                    for slot in returned
                    if (not group or slot.number in groups.of(group)) and slot.last_step(group) == behind[group]
                )
                return _returned(gone, other, note, groups)
    return None


def _returned(gone: Slot, other: Slot, note: Note, groups: Groups) -> StepMismatchError:
    group, step = note.group, note.last
    return StepMismatchError(
        f"worker {gone.number} has returned while worker {other.number} waits for it",
        why=f"worker {other.number} is in step {step}{groups.text(group)}, "
        f"{said_text(note.said(step))}; worker {gone.number} ended after step {gone.last_step(group)}",
        remedy="let all workers make the same collective calls before they return",
        details={"workers": [gone.number, other.number], "step": step, "group": group},
    )


def standing(slots: Sequence[Slot], groups: Groups, gone: int) -> str:
    """Where a worker was that is gone, and what others are in, as far as it is known: of others since their last beat.
    Empty when nobody has noted a step.
    """
    slot = slots[gone]
    inside, latest = slot.current(), slot.latest()
    found = []
    if inside is not None:
        found.append(f"worker {gone} was in {_step_text(inside, groups)}")
    elif latest is not None:
        done = latest.group, latest.last, latest.said(latest.last)
        found.append(f"the last that worker {gone} had done was {_step_text(done, groups)}")
    others: dict[str, list[int]] = {}
    for other in slots:
        current = None if other.number == gone or other.returned else other.current()
        if current is not None:
            others.setdefault(_step_text(current, groups), []).append(other.number)
    for text, numbers in sorted(others.items(), key=lambda one: -len(one[1]))[:_TOLD]:
        found.append(f"{named(numbers)} {'are' if len(numbers) > 1 else 'is'} in {text}")
    return "; ".join(found)


def _step_text(step: tuple[int, int, Said], groups: Groups) -> str:
    group, number, said = step
    return f"step {number}{groups.text(group)}, {said_text(said)}"


def said_text(entry: Said) -> str:
    """What a worker is in, and where."""
    _, kind, shape, line = entry
    return f"{kind}{f' {shape}' if shape else ''} at {line}"
