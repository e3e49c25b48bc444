"""Comparing what workers noted: as each pair would be compared, and no dearer when there are many."""

from __future__ import annotations

from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from twister2.master import steps
from twister2.master.slots import Slot
from twister2.master.steps import Groups, find_mismatch

LINE = "prog.py:1"


def slot(number, *, inside=None, returned=None, shape=""):
    """A worker in a step of some groups, or one that has returned after such steps."""
    made = Slot(number)
    if returned is not None:
        made.returned, made.last = True, dict(returned)
    else:
        made.note_steps([[group, step, True, "barrier", shape, LINE] for group, step in (inside or {}).items()])
    return made


STEPS = st.dictionaries(st.integers(0, 2), st.integers(1, 4), max_size=3)


@settings(deadline=None, max_examples=200, database=None)
@given(workers=st.lists(st.tuples(st.booleans(), STEPS), min_size=2, max_size=6), known=st.booleans())
def test_who_waits_for_one_that_has_returned_is_found_as_pair_by_pair(workers, known):
    groups = Groups()
    slots = [
        slot(number, returned=numbers) if returned else slot(number, inside=numbers)
        for number, (returned, numbers) in enumerate(workers)
    ]
    halves = {1: [number for number in range(len(slots)) if number % 2 == 0], 2: [*range(len(slots))]}
    for group, members in halves.items() if known else ():
        groups.add(group, members, slots)
    pairs = {
        (gone.number, other.number)
        for gone in slots
        for other in slots
        if gone.returned and not other.returned
        for note in other.inside()
        if (not note.group or gone.number in groups.of(note.group)) and note.last > gone.last_step(note.group)
    }
    found = find_mismatch(slots, groups)
    assert (found is None) == (not pairs)
    assert found is None or tuple(found.details["workers"]) in pairs


def test_of_many_workers_each_is_looked_at_a_few_times_and_not_by_each_other():
    slots = [slot(number, returned={0: 3}) for number in range(150)]
    slots += [slot(number, inside={0: 3}) for number in range(150, 300)]
    asked = mock.Mock(side_effect=Slot.last_step)
    with mock.patch.object(Slot, "last_step", lambda slot, group: asked(slot, group)):
        assert find_mismatch(slots, Groups()) is None
    assert asked.call_count <= 2 * len(slots)


def test_many_workers_are_compared_now_and_then_and_what_differs_is_found_then():
    groups = Groups()
    slots = [slot(number, inside={0: 1}) for number in range(steps.MANY + 1)]
    with mock.patch("time.monotonic", return_value=1000.0) as now:
        assert find_mismatch(slots, groups) is None
        slots[-1] = slot(steps.MANY, inside={0: 1}, shape="other")
        assert find_mismatch(slots, groups) is None, "too early"
        now.return_value += steps.PAUSE_S * len(slots)
        assert find_mismatch(slots, groups).details["workers"] == [0, steps.MANY]


def test_few_workers_are_compared_each_time():
    slots = [slot(number, inside={0: 1}) for number in range(steps.MANY)]
    groups = Groups()
    assert find_mismatch(slots, groups) is None
    slots[3] = slot(3, inside={0: 1}, shape="other")
    assert find_mismatch(slots, groups).details["workers"] == [0, 3]


def test_where_a_worker_was_that_is_gone_and_what_the_others_are_in():
    groups = Groups()
    slots = [slot(number, inside={0: 4}) for number in range(4)]
    slots[1].note_steps([[0, 3, False, "allgather", "n=8", "prog.py:6"]])
    slots[3].note_steps([[0, 2, True, "broadcast", "", "prog.py:5"]])
    assert steps.standing(slots, groups, 1) == (
        "the last that worker 1 had done was step 3, allgather n=8 at prog.py:6; "
        "workers 0, 2 are in step 4, barrier at prog.py:1; worker 3 is in step 2, broadcast at prog.py:5"
    )
    assert steps.standing(slots, groups, 3).startswith("worker 3 was in step 2, broadcast at prog.py:5; ")
    assert steps.standing([slot(0), slot(1)], groups, 1) == ""
    groups.add(7, [1, 0], slots)
    slots = [slot(0, inside={7: 2}), slot(1), slot(2, returned={0: 9})]
    assert steps.standing(slots, groups, 1) == f"worker 0 is in step 2{groups.text(7)}, barrier at prog.py:1"
