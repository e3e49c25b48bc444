"""Workers that wait for each other in steps of different groups: seen for certain, and never where there are none."""

from __future__ import annotations

from itertools import count
from random import Random

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from twister2.master.deadlocks import BEATS, Deadlocks
from twister2.master.slots import Slot
from twister2.master.status import worker_status
from twister2.master.steps import Groups, find_mismatch
from twister2.spec.errors import StepMismatchError
from twister2.worker.board import LIMITED, OTHERS

HEARTBEAT_S, CERTAIN_AFTER_S = 1.0, 5.0


class Boards:
    """Slots, groups, and a clock that goes on by one beat of everybody at a time."""

    def __init__(self, n: int, **groups: list[int]) -> None:
        self.slots = [Slot(number, phase="joined") for number in range(n)]
        self.groups = Groups()
        self.numbers = {name: number for number, name in enumerate(groups, 1)} | {"world": 0}
        for name, members in groups.items():
            self.groups.add(self.numbers[name], members, self.slots, f"p.py:{self.numbers[name]}")
        self.deadlocks = Deadlocks(HEARTBEAT_S, CERTAIN_AFTER_S)
        self.now = 100.0

    def note(self, worker: int, *steps: tuple[str, int, bool], kind: str = "allreduce", text: str | None = "") -> None:
        """Its open and past steps; it waits in the last one, unless ``text`` is None."""
        slot = self.slots[worker]
        line = f"p.py:{10 + worker}"
        slot.note_steps([[self.numbers[group], step, inside, kind, "n=1", line] for group, step, inside in steps])
        waits = text or f"{kind}, step {steps[-1][1]}: {OTHERS}" if steps else ""
        slot.waits_for = "" if text is None else waits

    def beats(self, n: int = 1, without: int = -1) -> StepMismatchError | None:
        for _ in range(n):
            for slot in self.slots:
                slot.beats += slot.number != without
            self.now += HEARTBEAT_S
            error = self.deadlocks.look(self.slots, self.groups, self.now)
            if error is not None:
                return error
        return None


def crossed() -> Boards:
    """Worker 1 makes two calls in the other order than worker 0."""
    boards = Boards(3, g=[0, 1], h=[1, 0])
    boards.note(0, ("g", 1, True))
    boards.note(1, ("h", 1, True))
    return boards


def test_two_groups_in_another_order():
    boards = crossed()
    assert boards.beats(BEATS) is None, "it must have stayed so"
    error = boards.beats()
    assert error is not None
    assert error.what == "workers 0, 1 wait for each other"
    assert "worker 0 is in allreduce n=1 at p.py:10 (step 1 of the group of workers 0, 1), which 1 has not" in error.why
    assert "worker 1 is in allreduce n=1 at p.py:11 (step 1 of the group of workers 1, 0), which 0 has not" in error.why
    assert "same order on all members" in error.remedy
    assert error.details["workers"] == [0, 1]


def test_two_groups_of_the_same_members_are_told_apart():
    boards = Boards(2, g=[0, 1], h=[0, 1])
    boards.note(0, ("g", 1, True))
    boards.note(1, ("h", 1, True))
    error = boards.beats(BEATS + 1)
    assert error is not None
    assert "(step 1 of group 1 of workers 0, 1, made at p.py:1), which 1 has not entered" in error.why
    assert "(step 1 of group 2 of workers 0, 1, made at p.py:2), which 0 has not entered" in error.why


def test_a_group_and_all():
    boards = Boards(3, g=[0, 1])
    boards.note(0, ("g", 1, True))
    for worker in (1, 2):
        boards.note(worker, ("world", 1, True), kind="barrier")
    error = boards.beats(5)
    assert error is not None
    assert error.details["workers"] == [0, 1], "worker 2 waits, but nobody waits in a circle with it"


def test_who_has_not_beaten_is_not_judged():
    assert crossed().beats(20, without=1) is None


def test_what_changes_is_no_deadlock():
    boards = Boards(2, g=[0, 1], h=[0, 1])
    for step in range(1, 30):
        boards.note(0, ("g", step, True))
        boards.note(1, ("h", step, True))
        assert boards.beats() is None


def test_who_does_not_wait_breaks_the_circle():
    boards = crossed()
    boards.note(1, ("h", 1, True), text=None)
    assert boards.beats(20) is None, "it computes inside the step, or polls"
    boards.note(1, ("h", 1, True), text="barrier 'mine'")
    assert boards.beats(20) is None, "it waits for something else, which has a deadline of its own"
    boards.note(1, ("h", 1, True), text=f"allreduce, step 1: {OTHERS} (5{LIMITED}")
    assert boards.beats(20) is None, "it will go on by itself"
    boards.note(1)
    assert boards.beats(20) is None, "it has not come to a step yet"


def test_a_call_that_was_started_counts_as_entered():
    boards = crossed()
    boards.note(1, ("g", 1, True), ("h", 2, True))
    assert boards.beats(20) is None
    boards = crossed()
    boards.note(0, ("g", 1, True), ("g", 2, True))  # both started g 1, and wait in others
    boards.note(1, ("g", 1, True), ("h", 2, True))
    assert boards.beats(20) is not None


def test_members_that_are_not_known_yet():
    boards = crossed()
    boards.groups = Groups()
    boards.groups.add(7, [0, 1], boards.slots)
    assert boards.beats(20) is None


def test_who_may_wait_for_data_on_the_way_is_given_time():
    boards = crossed()
    boards.note(0, ("g", 1, True), kind="broadcast")
    assert boards.beats(int(CERTAIN_AFTER_S)) is None
    assert boards.beats(2) is not None
    boards = crossed()
    boards.note(0, ("g", 1, True), kind="broadcast", text="broadcast, step 1: for worker 1")
    assert boards.beats(BEATS + 1) is not None, "it says whose data, and that one has not come"


def test_a_third_member_that_computes_may_be_the_one_who_is_needed():
    boards = Boards(3, g=[0, 1, 2], h=[1, 0])
    boards.note(0, ("g", 1, True), kind="broadcast")
    boards.note(1, ("h", 1, True))
    boards.note(2, ("g", 1, False), kind="broadcast")
    assert boards.beats(20) is None
    boards.slots[2].returned = True
    assert boards.beats(20) is not None


def test_a_step_that_is_kept_open_in_the_background():
    boards = Boards(2, g=[0, 1])
    for worker in (0, 1):
        boards.note(worker, ("g", 1, True), kind="harp.events", text="harp.events: an event")
    assert boards.beats(20) is None


def test_the_status_shows_the_step_that_is_waited_in_and_the_members():
    boards = Boards(3, g=[2, 0])
    boards.note(0, ("world", 9, True), ("g", 1, True))
    row = worker_status(boards.slots[0], boards.slots, boards.groups)
    assert row["step"][:2] == [boards.numbers["g"], 1]
    assert row["group"] == [2, 0]
    assert row["waits_for"] == "allreduce, step 1: for worker 2"


# -- programs at random ------------------------------------------------------------------------------------------------


@attrs.define
class Call:
    """A call of a group's members: who needs whom follows from its kind, the first member is the root."""

    kind: str
    group: int


class Simulated:
    """Workers that make calls, one action at a time; boards that are read now and then."""

    def __init__(self, members: list[list[int]], programs: list[list[tuple[str, Call]]]) -> None:
        self.members, self.programs = members, programs
        self.at = [0] * len(programs)
        self.entered = [[0] * len(members) for _ in programs]
        self.open: list[list[tuple[Call, int]]] = [[] for _ in programs]
        self.waits: list[tuple[Call, int] | None] = [None for _ in programs]

    def missing(self, worker: int, call: Call, step: int) -> list[int]:
        members = self.members[call.group]
        root = members[0]
        needed = members if call.kind == "allreduce" or (call.kind == "gather" and worker == root) else []
        needed = [root] if call.kind == "broadcast" else needed
        return [one for one in needed if self.entered[one][call.group] < step]

    def blocked(self, worker: int) -> bool:
        wait = self.waits[worker]
        return wait is not None and bool(self.missing(worker, *wait))

    def over(self, worker: int) -> bool:
        return self.waits[worker] is None and self.at[worker] == len(self.programs[worker])

    def act(self, worker: int) -> None:
        if self.waits[worker] is not None:
            self.open[worker].remove(self.waits[worker])
            self.waits[worker] = None
        elif self.at[worker] < len(self.programs[worker]):
            how, call = self.programs[worker][self.at[worker]]
            self.at[worker] += 1
            if how == "wait":
                self.waits[worker] = self.open[worker][0] if self.open[worker] else None
            else:
                self.entered[worker][call.group] += 1
                opened = (call, self.entered[worker][call.group])
                self.open[worker].append(opened)
                self.waits[worker] = opened if how == "call" else None

    def read(self, slot: Slot, names: bool) -> None:
        worker = slot.number
        inside = [[call.group + 1, step, True, call.kind, "", "p.py:1"] for call, step in self.open[worker]]
        past = [[group + 1, step, False, "-", "", ""] for group, step in enumerate(self.entered[worker]) if step]
        slot.note_steps([*(one for one in past if all(one[:2] != other[:2] for other in inside)), *inside])
        slot.waits_for, wait = "", self.waits[worker]
        if wait is not None:
            missing = self.missing(worker, *wait)
            whom = f"for worker {missing[0]}" if names and missing else OTHERS
            slot.waits_for = f"{wait[0].kind}, step {wait[1]}: {whom}"
        slot.beats += 1


def go_on(world: Simulated, ready: list[int], delayed: list[int], random: Random) -> None:
    """Now and then one acts; at once who is due: what is on the way is taken in within the time that is given to it.

    :param delayed: for how many turns each has been ready.
    """
    for worker in range(len(delayed)):
        delayed[worker] = delayed[worker] + 1 if worker in ready else 0
    due = [worker for worker in ready if delayed[worker] >= CERTAIN_AFTER_S]
    for worker in due or ([random.choice(ready)] if random.random() < 0.3 else []):
        if not world.blocked(worker) and not world.over(worker):
            world.act(worker)
        delayed[worker] = 0


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_there_is_an_error_when_nobody_goes_on_and_only_then(data):
    n = data.draw(st.integers(2, 4))
    members = data.draw(
        st.lists(
            st.permutations(range(n)).flatmap(lambda p: st.integers(2, n).map(lambda k: p[:k])), min_size=1, max_size=3
        )
    )
    calls = data.draw(
        st.lists(
            st.builds(Call, st.sampled_from(["allreduce", "broadcast", "gather"]), st.integers(0, len(members) - 1)),
            max_size=6,
        )
    )
    programs: list[list[tuple[str, Call]]] = []
    for worker in range(n):  # every worker makes the calls of its groups, sometimes in an order of its own
        mine = [call for call in calls if worker in members[call.group]]
        if data.draw(st.booleans()):
            mine = sorted(mine, key=lambda call: call.group, reverse=data.draw(st.booleans()))
        program = [(data.draw(st.sampled_from(["call", "start"])), call) for call in mine]
        started = sum(how == "start" for how, _ in program)
        programs.append(program + [("wait", Call("", 0))] * 2 * started)
    world = Simulated(members, programs)
    slots = [Slot(number, phase="joined") for number in range(n)]
    groups = Groups()
    for number, ids in enumerate(members, 1):
        groups.add(number, ids, slots)
    deadlocks, clock = Deadlocks(HEARTBEAT_S, CERTAIN_AFTER_S), count(100.0, HEARTBEAT_S)
    names = data.draw(st.booleans())
    random = data.draw(st.randoms(use_true_random=False))
    accused: set[int] = set()
    delayed = [0] * n
    while ready := [worker for worker in range(n) if not world.blocked(worker) and not world.over(worker)]:
        go_on(world, ready, delayed, random)
        for slot in slots:  # boards are of different ages
            if random.random() < 0.7:
                world.read(slot, names)
        error = deadlocks.look(slots, groups, next(clock))
        accused |= set(error.details["workers"]) if error else set()
    assert all(world.blocked(worker) for worker in accused), "a false alarm"
    error = None
    for _ in range(12):
        for slot in slots:
            world.read(slot, names)
            if world.over(slot.number):
                slot.phase, slot.returned = "ended", True
                slot.last = dict(enumerate(world.entered[slot.number], 1))
        error = error or deadlocks.look(slots, groups, next(clock)) or find_mismatch(slots, groups)
    # Calls of the same kind and number in two groups, one waited for and one under way, cannot be told apart.
    told = all(slots[worker].waits_in() for worker in range(n) if world.blocked(worker))
    if told and any(map(world.blocked, range(n))):
        assert error is not None, "nobody ends it"
