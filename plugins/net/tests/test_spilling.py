"""Runs that are merged, queues that spill, tables of groups: against plain Python, with any order of spilling."""

from __future__ import annotations

import gc
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import twister2_net as net
from twister2.spec.hashing import stable_hash
from twister2.worker.memory import Memory
from twister2.worker.spill import Spill
from twister2_net.spilling import key_order
from twister2_net.spilling.key_order import Ranking, canonical, restored
from twister2_net.spilling.queues import Collecting, HeldBatches, Records, Values
from twister2_net.spilling.runs import Entries, Runs, windows
from twister2_net.spilling.tables import FoldTable, GroupTable
from twister2_testkit.fakes import LocalCluster

several = settings(max_examples=60, deadline=None, derandomize=True, database=None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("disk")


def memory(folder, limit=0):
    return Memory(limit, spill=Spill([folder], configured=True))


@several
@given(st.lists(st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=5), max_size=5), max_size=6))
def test_windows_are_all_records_in_stable_order(runs):
    ordered = []
    for number, blocks in enumerate(runs):
        ranks = iter(sorted(rank for block in blocks for rank in block))
        ordered.append([[(next(ranks), number, index, place) for place in range(len(block))]
                        for index, block in enumerate(blocks)])  # fmt: skip
    form, found = Entries(), []
    for window in windows([(blocks, form) for blocks in ordered]):
        parts = [part for _, part in window.parts]
        if window.below:
            found += form.whole(parts)
        else:
            assert len({entry[0] for part in parts for entry in part}) <= 1
            found += [entry for part in parts for entry in part]
    everything = [entry for blocks in ordered for block in blocks for entry in block]
    assert found == sorted(everything, key=lambda entry: entry[0])


def test_a_window_that_is_not_read_is_passed_over():
    runs = [([[(1, "a"), (2, "b")], [(2, "c")], [(3, "d")]], Entries())]
    seen = [
        (window.below, [e for _, p in window.parts for e in p]) if window.below else None for window in windows(runs)
    ]
    assert seen == [(True, [(1, "a")]), None, None]


def test_many_runs_are_merged_to_few_first(folder):
    room = memory(folder, 1 << 20)
    runs = Runs(room, "test", [Entries()])
    for number in range(100):
        runs.write([[(rank, number) for rank in range(number % 7, 40, 3)]])
    found = [
        e for window in runs.windows() for _, part in window.parts for e in (sorted(part) if window.below else part)
    ]
    assert len(found) == sum(len(range(number % 7, 40, 3)) for number in range(100))
    assert len(runs) <= 16
    runs.close()
    assert room.use().reserved == 0


@several
@given(st.lists(st.one_of(st.none(), st.booleans(), st.integers(0, 50)), max_size=40))
def test_a_queue_is_first_in_first_out_however_it_spills(folder, actions):
    """Numbers are put, None takes one, True spills, False looks at all."""
    room = memory(folder)
    held, expected = HeldBatches(room, "test"), []
    for action in actions:
        if action is None:
            if expected:
                assert held.get() == expected.pop(0)
            else:
                with pytest.raises(IndexError):
                    held.get()
        elif action is True:
            held._revoke(1)
        elif action is False:
            assert list(held.peek()) == expected
        else:
            held.put([action], 100)
            expected.append([action])
        assert len(held) == len(expected)
    assert list(held.drain()) == expected
    assert room.use().reserved == 0


def test_looking_goes_on_when_values_go_to_disk_meanwhile(folder):
    held = HeldBatches(memory(folder), "test")
    for number in range(6):
        held.put(number, 10)
        if number == 2:
            held._revoke(1)
    walk = held.peek()
    seen = [next(walk) for _ in range(4)]
    held._revoke(1)
    assert seen + list(walk) == list(range(6))


@several
@given(
    st.lists(st.one_of(st.just("spill"), st.tuples(st.integers(0, 1), st.integers(0, 5), st.integers())), max_size=60),
    st.sampled_from([None, True, lambda key: -key, lambda key: key % 2]),
    st.sampled_from([stable_hash, lambda key: key % 2]),
)
def test_groups_are_whole_whenever_they_spill(folder, actions, order, hashed):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_order, "stable_hash", hashed)
        groups_are_whole(folder, actions, order)


def groups_are_whole(folder, actions, order):
    room = memory(folder)
    table, expected = GroupTable(room, "test", Ranking(order, "test"), 2), {}
    for action in actions:
        if action == "spill":
            table._revoke(1)
        else:
            side, key, value = action
            table.add(side, [(key, value)], 100, 0)
            expected.setdefault(key, ([], []))[side].append(value)
    state = pickle.loads(pickle.dumps(table.state()))
    again = GroupTable(room, "again", Ranking(order, "test"), 2)
    again.add_back(state or [])
    for one in (table, again):
        found = list(one.groups())
        assert {key: tuple(map(list, sides)) for key, sides in found} == expected
        assert len(found) == len(expected)
        if order:
            keys = [key for key, _ in found]
            assert keys == sorted(keys, key=None if order is True else order)
    assert room.use().reserved == 0


@several
@given(
    st.lists(st.one_of(st.just("spill"), st.tuples(st.integers(0, 5), st.integers())), max_size=60),
    st.sampled_from([stable_hash, lambda key: key % 2]),
)
def test_folded_values_are_whole_whenever_they_spill(folder, actions, hashed):
    table, expected = FoldTable(memory(folder), "test", Ranking(None, "test"), lambda key, a, b: a + b), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_order, "stable_hash", hashed)
        for action in actions:
            if action == "spill":
                table._revoke(1)
            else:
                key, value = action
                table.table[key] = table.table.get(key, 0) + value
                expected[key] = expected.get(key, 0) + value
        assert dict(table.results()) == expected


def test_values_on_disk_are_read_again_and_travel_as_lists(folder):
    room = memory(folder)
    collecting = Collecting(room.scratch("test"), 500)
    for start in range(0, 100, 10):
        collecting.add(list(range(start, start + 10)))
    values = collecting.done()
    assert isinstance(values, Values)
    assert list(values) == list(values) == list(range(100))
    assert len(values) == 100
    assert [part for chunk in values.chunks() for part in chunk] == list(range(100))
    assert pickle.loads(pickle.dumps(values)) == list(range(100))


def test_records_give_their_room_back_with_the_last_reference(folder):
    room = memory(folder, 10_000)
    records = Records(room, "test")
    for start in range(0, 1000, 100):
        records.add(list(range(start, start + 100)))
    assert room.use().spilled > 0
    assert room.use().reserved > 0
    assert len(records) == 1000
    assert list(records) == list(records) == list(range(1000))
    batches = records.batches()
    del records
    gc.collect()
    assert [number for batch in batches for number in batch] == list(range(1000)), "who reads holds a reference"
    gc.collect()
    assert room.use().reserved == 0


def test_the_batches_of_a_call_whose_result_has_no_name():
    """They were gone before the first was read."""
    got = LocalCluster(2).run(lambda env: [batch for batch in net.sort(env, [3, 1, 2]).batches()])
    assert [number for part in got for batch in part for number in batch] == [1, 1, 2, 2, 3, 3]


def test_canonical_keys():
    nan = float("nan")
    assert canonical((1, nan)) == canonical((1, float("nan")))
    assert canonical((1, (2, nan))) == canonical((1, (2, float("nan"))))
    assert repr(restored(canonical((1, (2, nan))))) == "(1, (2, nan))"
    assert canonical((1, "a")) == (1, "a")
    ordered = sorted([canonical(nan), 3, canonical(nan), -1.0])
    assert ordered[:2] == [-1.0, 3]


def test_the_state_at_a_barrier_counts_and_goes_to_disk():
    limit = 1 << 20

    def main(env):
        pairs = [(number, f"{number} {'.' * 100}") for number in range(20_000)]
        with net.operator(
            env, "keyed_gather", sources=[0], targets=[0], mode="stream", grouped=False, label="words"
        ) as op:
            for start in range(0, len(pairs), 200):
                op.put(0, pairs[start : start + 200])
            op.mark(0, "barrier", 1)
            op.put(0, [("behind", 1)])
            assert next(op.items(20.0)).kind.name == "BARRIER"
            use = env.memory.use()
            first, second = op.snapshot(), op.snapshot()
            assert first == second
            assert len(first) > 2 * limit
            assert b"behind" not in first
            op.finish()
            assert sum(len(item.value) for item in op.items(20.0)) == len(pairs) + 1
        return use.peak, use.spilled, env.memory.use().reserved, use.holders

    ((peak, spilled, after, _),) = LocalCluster(1, memory_bytes=limit).run(main)
    assert peak <= limit
    assert spilled > 3 * limit, "the table and its state"
    assert after == 0


def test_a_small_state_at_a_barrier_is_among_the_holders():
    def main(env):
        with net.operator(env, "reduce", sources=[0], targets=[0], mode="stream", reducer="max", label="most") as op:
            op.put(0, [b"x" * 50_000])
            op.mark(0, "barrier", 1)
            assert next(op.items(20.0)).kind.name == "BARRIER"
            holders = dict(env.memory.use().holders)
            op.finish()
            list(op.items(20.0))
        return holders, env.memory.use().reserved

    ((holders, after),) = LocalCluster(1, memory_bytes=8 << 20).run(main)
    assert holders["reduce 'most': state at a barrier"] > 50_000
    assert after == 0
