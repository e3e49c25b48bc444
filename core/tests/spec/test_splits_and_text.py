"""How splits are dealt to tasks, and which batches have a text that may be taken whole."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twister2.spec.batch import n_records, records, text_block
from twister2.spec.data import Split, assign_splits

sizes = st.lists(st.integers(0, 1000), max_size=40)


def splits_of(sizes):
    return [Split(f"split {number}", {}, size) for number, size in enumerate(sizes)]


@given(sizes, st.integers(1, 12))
def test_every_split_once_and_in_order(sizes, n_tasks):
    splits = splits_of(sizes)
    dealt = assign_splits(splits, n_tasks)
    assert len(dealt) == n_tasks
    assert [split for mine in dealt for split in mine] == splits
    assert assign_splits(splits, n_tasks) == dealt


@given(sizes, st.integers(1, 12))
def test_no_task_gets_more_than_its_share_and_a_split(sizes, n_tasks):
    loads = [sum(max(1, split.n_bytes) for split in mine) for mine in assign_splits(splits_of(sizes), n_tasks)]
    share = sum(max(1, size) for size in sizes) / n_tasks
    assert max(loads) <= share + max(sizes, default=0) + 1


def test_equal_splits_are_spread_evenly():
    assert sorted(len(mine) for mine in assign_splits(splits_of([5] * 10), 4)) == [2, 2, 3, 3]
    assert [len(mine) for mine in assign_splits(splits_of([0] * 3), 3)] == [1, 1, 1]


def test_tasks_are_at_least_one():
    with pytest.raises(ValueError, match="at least 1"):
        assign_splits([], 0)


class Lines(Sequence):
    __t2_records__ = str

    def __init__(self, text):
        self.text_block = text

    def __len__(self):
        return self.text_block.count("\n") + 1

    def __getitem__(self, index):
        return self.text_block.split("\n")[index]


def test_text_block():
    lines = Lines("a b\nc")
    assert text_block(lines) == "a b\nc"
    assert n_records(lines) == 2
    assert list(records(lines)) == ["a b", "c"]
    assert text_block(["a b", "c"]) is None
    lines.text_block = None
    assert text_block(lines) is None
