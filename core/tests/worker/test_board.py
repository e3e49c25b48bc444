"""The step board: what the writer noted is what the reader sees, whatever the order of call sites."""

from __future__ import annotations

import os

from hypothesis import example, given, settings
from hypothesis import strategies as st

from twister2.master.slots import Slot
from twister2.master.steps import Groups, find_mismatch
from twister2.spec.network import Fingerprint
from twister2.worker.board import ENTRIES, StepBoard

SITES = [Fingerprint("allreduce", f"n={site}", f"p.py:{site}") for site in range(40)]


def board():
    descriptor = StepBoard.create()
    try:
        return StepBoard(descriptor)
    finally:
        os.close(descriptor)


def slot_of(number, *boards):
    slot = Slot(number)
    slot.note_steps([entry.to_json() for one in boards for entry in one.entries()])
    return slot


CARRIED_ON = [  # the oldest entry is that of a group's latest step: a stride has carried it on
    (1, 2), (0, 0), (0, 0), (0, 2), (0, 0), (0, 0), (0, 4), (1, 0), (2, 2), (0, 0), (0, 0), (0, 1), (0, 2), (0, 3),
    (0, 5), (1, 1), (1, 3), (2, 1), (0, 0), (0, 2), (1, 2), (2, 0),
]  # fmt: skip


@settings(max_examples=200, deadline=None)
@example(CARRIED_ON)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5)), max_size=80))
def test_every_noted_step_is_told_as_it_was(calls):
    noted, numbers, told = board(), {}, {}
    for group, site in calls:
        step = numbers[group] = numbers.get(group, 0) + 1
        noted.enter(group, step, SITES[site])
        told[group, step] = SITES[site].shape
        noted.leave(group, step)
    slot = slot_of(0, noted)
    for (group, step), shape in told.items():
        said = slot.said(group, step)
        assert said is None or said[1:3] == ("allreduce", shape)
    for group, step in numbers.items():
        assert slot.last_step(group) == step
        assert slot.said(group, step) == (False, "allreduce", told[group, step], slot.said(group, step)[3])
    assert slot.current() is None
    noted.close()


def test_a_loop_of_call_sites_is_remembered_whole():
    noted = board()
    for step in range(1, 3001):
        noted.enter(0, step, SITES[step % 3])
        noted.leave(0, step)
    slot = slot_of(0, noted)
    assert all(slot.said(0, step)[2] == SITES[step % 3].shape for step in range(1, 3001))


def test_many_call_sites_leave_the_step_that_others_wait_in():
    noted = board()
    noted.enter(0, 1, SITES[0])
    for step in range(1, 4 * ENTRIES):
        noted.enter(7, step, SITES[1 + step % 39])
        noted.leave(7, step)
    slot = slot_of(0, noted)
    assert slot.current() == (0, 1, (True, "allreduce", "n=0", "p.py:0"))


def test_calls_that_are_open_at_once_are_left_in_any_order():
    noted = board()
    for step in (1, 2, 3):
        noted.enter(0, step, SITES[step])
    noted.leave(0, 1)
    noted.leave(0, 3)
    assert [note.last for note in slot_of(0, noted).inside()] == [2]
    noted.leave(0, 2)
    assert slot_of(0, noted).current() is None


def test_the_master_sees_who_passed_a_step_as_something_else():
    """One waits in step 5; the other was in another call there, and is far ahead."""
    one, other = board(), board()
    for step in range(1, 6):
        one.enter(0, step, SITES[1])
        if step < 5:
            one.leave(0, step)
    for step in range(1, 100):
        other.enter(0, step, SITES[1] if step < 5 else SITES[2])
        other.leave(0, step)
    error = find_mismatch([slot_of(0, one), slot_of(1, other)], Groups())
    assert error is not None
    assert "p.py:1" in error.why
    assert "p.py:2" in error.why
    assert "step 5" in error.why


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40), st.text(max_size=300), st.text(max_size=200))
def test_a_step_is_noted_whatever_its_texts_are(kind, shape, path):
    noted = board()
    noted.enter(0, 1, Fingerprint(kind, shape, f"{path}.py:123"))
    noted.enter(1, 1, Fingerprint(kind, shape + "x", f"{path}.py:123"))
    one, other = sorted(noted.entries(), key=lambda entry: entry.group)
    assert (one.last, other.last) == (1, 1)
    assert one.shape != other.shape, "also where they differ behind what is shown"
    assert one.line.endswith(".py:123")
    noted.close()


def test_names_of_files_that_are_no_text_are_noted():
    noted = board()
    noted.enter(0, 1, Fingerprint("run", "x", os.fsdecode(b"/caf\xe9/p.py:3")))
    noted.wait_for(os.fsdecode(b"caf\xe9"))
    assert [entry.line for entry in noted.entries()] == ["/caf?/p.py:3"]
    noted.close()
