"""Workers that wait for each other in the steps of different groups, for ever.

A worker that waits in a step needs members that have not entered it. When these wait themselves, in steps of other
groups that need the first, none of them ever goes on. That must never be said of workers that do: so nobody counts who
computes, polls, waits with a deadline, or waits in a step that all members have entered; a call that was started and is
not waited for counts as entered, as its worker goes on with it while it waits in another. And boards are read one after
the other: what is seen counts when it has stayed the same over several beats of everybody concerned.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import attrs

from twister2.master.slots import Note
from twister2.spec.errors import StepMismatchError
from twister2.worker.board import LIMITED
from twister2.worker.groups import listed, named

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from twister2.master.slots import Slot
    from twister2.master.steps import Groups

BEATS = 2
"""Beats of each worker during which nothing changes."""
SHOWN = 8

_ALL_NEED_ALL = frozenset({"allreduce", "allgather", "barrier", "commit", "exchange", "exchange_objects", "split"})
"""Calls in which a worker that waits needs every member. In others it may need one, or none of those that are missing:
a broadcast needs what is on the way from its root.
"""
_FIRST_USE = "(first use)"
_NAMED = re.compile(r"(?:for|from) worker (\d+)$")


@attrs.frozen
class Wait:
    """A worker in a step that members have not entered.

    :ivar needs: those of whom it needs each; none: it may need any of ``missing``, or what others have on the way.
    :ivar missing: members that have not entered the step. :ivar others: all members but itself.
    """

    worker: int
    note: Note
    text: str
    needs: frozenset[int]
    missing: frozenset[int]
    others: frozenset[int]

    @property
    def same(self) -> tuple[int, int, int, str]:
        return self.worker, self.note.group, self.note.last, self.text


def waits(slots: Sequence[Slot], groups: Groups) -> dict[int, Wait]:
    """Who waits for members that have not come, by worker; worker id = slot number."""
    found: dict[int, Wait] = {}
    known: dict[tuple[int, int], tuple[frozenset[int], frozenset[int]]] = {}
    for slot in slots:
        if slot.phase != "joined" or slot.returned or slot.waits_for.endswith(LIMITED):
            continue
        note = slot.waits_in()
        if note is None:
            continue
        key = note.group, note.last
        if key not in known:
            members = groups.of(note.group) if note.group else frozenset(range(len(slots)))
            known[key] = members, frozenset(one for one in members if slots[one].last_step(note.group) < note.last)
        members, missing = known[key]
        if missing:
            needs = _needs(slot.waits_for, note, missing)
            found[slot.number] = Wait(slot.number, note, slot.waits_for, needs, missing, members - {slot.number})
    return found


def _needs(text: str, note: Note, missing: frozenset[int]) -> frozenset[int]:
    if note.kind in _ALL_NEED_ALL or note.shape.endswith(_FIRST_USE):
        return missing
    one = _NAMED.search(text)
    return missing & {int(one[1])} if one else frozenset()


def stuck(waiting: Mapping[int, Wait], gone: frozenset[int] = frozenset()) -> set[int]:
    """Those who wait for each other, and whoever waits for one of them.

    :param gone: workers that have returned: nothing comes from them.
    """
    left = set(waiting)
    while left:
        free = {worker for worker in left if not _is_stuck(waiting[worker], left, gone)}
        if not free:
            break
        left -= free
    return left


def _is_stuck(wait: Wait, left: set[int], gone: frozenset[int]) -> bool:
    return not left.isdisjoint(wait.needs) if wait.needs else wait.others - gone <= left


class Deadlocks:
    """Looks at the boards again and again."""

    def __init__(self, heartbeat_s: float, certain_after_s: float) -> None:
        """
        :param certain_after_s: how long all must have waited where one of them may only wait for data on the way.
        """
        self._heartbeat_s, self._certain_after_s = heartbeat_s, certain_after_s
        self.reset()

    def reset(self) -> None:
        """A new attempt."""
        self._next = 0.0
        self._seen: dict[bool, tuple[frozenset[object], float, dict[int, int]]] = {}

    def look(self, slots: Sequence[Slot], groups: Groups, now: float) -> StepMismatchError | None:
        """Look, when it is time to.

        :param now: monotonic, seconds.
        """
        if now < self._next or not len(groups):
            return None
        self._next = now + self._heartbeat_s / 2
        waiting = waits(slots, groups)
        sure = {worker: wait for worker, wait in waiting.items() if wait.needs}
        gone = frozenset(slot.number for slot in slots if slot.returned)
        for certain, workers in ((True, stuck(sure)), (False, stuck(waiting, gone))):
            if self._stays(certain, workers, waiting, slots, now):
                return _error([waiting[worker] for worker in _cycle(waiting, workers)], groups)
        return None

    def _stays(
        self, certain: bool, workers: set[int], waiting: Mapping[int, Wait], slots: Sequence[Slot], now: float
    ) -> bool:
        same = frozenset(waiting[worker].same for worker in workers)
        before = self._seen.get(certain)
        if not workers or before is None or before[0] != same:
            self._seen[certain] = same, now, {worker: slots[worker].beats for worker in workers}
            return False
        _, since, beats = before
        enough = all(slots[worker].beats - beats[worker] >= BEATS for worker in workers)
        return enough and (certain or now - since >= self._certain_after_s)


def _cycle(waiting: Mapping[int, Wait], workers: set[int]) -> list[int]:
    """Some who wait for each other, in the order of who waits for whom."""
    way: list[int] = []
    worker = min(workers)
    while worker not in way:
        way.append(worker)
        wait = waiting[worker]
        worker = min((wait.needs or wait.missing) & workers, default=min(wait.others & workers, default=worker))
    return way[way.index(worker) :]


def _error(cycle: Sequence[Wait], groups: Groups) -> StepMismatchError:
    workers = sorted(wait.worker for wait in cycle)
    told = [_told(wait, groups) for wait in cycle[:SHOWN]]
    orders = {groups.order(wait.note.group) for wait in cycle if wait.note.group}
    remedy = "let all workers make the calls of different groups in the same order"
    if len({frozenset(order) for order in orders}) < len(orders):
        remedy = "give env.group() the ids in the same order on all members: in another order they are another group"
    return StepMismatchError(
        f"{named(workers)} wait for each other" if len(workers) > 1 else f"worker {workers[0]} waits for ever",
        why="; ".join(told) + ("; ..." if len(cycle) > SHOWN else ""),
        remedy=remedy,
        where=cycle[0].note.line,
        details={
            "workers": workers,
            "lines": {str(wait.worker): wait.note.line for wait in cycle},
            "steps": {str(wait.worker): [wait.note.group, wait.note.last] for wait in cycle},
        },
    )


def _told(wait: Wait, groups: Groups) -> str:
    note = wait.note
    shape = f" {note.shape}" if note.shape else ""
    missing: Iterable[int] = sorted(wait.missing)
    return (
        f"worker {wait.worker} is in {note.kind}{shape} at {note.line} "
        f"(step {note.last}{groups.text(note.group)}), "
        f"which {listed(missing)} {'have' if len(wait.missing) > 1 else 'has'} not entered"
    )
