"""The part of the operator suite about what arrives where: every record once, in order, by key, combined right."""

from __future__ import annotations

import operator as python_operator
from collections import Counter
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twister2.spec.channel import HeaderKind
from twister2.spec.errors import KeyHashError, OperatorError
from twister2.spec.hashing import task_of_key
from twister2_testkit.capabilities import needs
from twister2_testkit.ops_base import OperatorChecks, bag, everything, exchanges, few, keys, records
from twister2_testkit.ops_drive import Exchange, batches, flat
from twister2_testkit.ops_keyed import named


class DataChecks(OperatorChecks):
    """What arrives where."""

    # -- passing on ------------------------------------------------------------------------------------------------

    @needs("partition")
    def test_partition_delivers_every_record_once(self) -> None:
        @few
        @given(exchanges(records))
        def check(case: tuple[Any, ...]) -> None:
            sources, targets, feeds = case
            for partitioner in ("hash", "round_robin"):
                got = self.once("partition", sources, targets, feeds, partitioner=partitioner)
                assert bag([record for items in got.values() for record in flat(items)]) == bag(everything(feeds))

        check()

    @needs("partition")
    def test_partition_keeps_the_order_of_each_source(self) -> None:
        feeds = [[[(source, number * 10 + part) for part in range(10)] for number in range(40)] for source in range(3)]
        got = self.once("partition", (0, 1, 1), (0, 1), feeds, partitioner=lambda record, n: record[1] % n)
        for target, items in got.items():
            for source in range(3):
                mine = [record for record in flat(items) if record[0] == source]
                assert mine == [(source, number) for number in range(400) if number % 2 == target]

    @needs("partition")
    def test_hash_places_by_the_stable_hash(self) -> None:
        values = [*range(200), *map(str, range(200)), None, True, 2.0, (1, "x"), b"b"]
        got = self.once("partition", (0, 1), (0, 1, 1), [[values], [values[::-1]]], partitioner="hash")
        for target, items in got.items():
            assert {repr(record) for record in flat(items)} == {
                repr(record) for record in values if task_of_key(record, 3) == target
            }

    @needs("partition")
    def test_round_robin_spreads_evenly(self) -> None:
        got = self.once("partition", (0, 1), (0, 1, 1), [[[1] * 30] * 2, [[2] * 60]], partitioner="round_robin")
        assert [len(flat(items)) for _, items in sorted(got.items())] == [40, 40, 40]

    @needs("partition")
    def test_skew_and_a_giant_record(self) -> None:
        giant = "g" * (5 << 20)
        feeds = [[[giant]], [[number] for number in range(50)], []]
        got = self.once("partition", (0, 1, 1), (0, 1, 1), feeds, partitioner=lambda record, n: 0)
        assert bag(flat(got[0])) == bag([giant, *range(50)])
        assert flat(got[1]) == flat(got[2]) == []

    @needs("partition")
    def test_wrong_targets_are_refused_with_the_record(self) -> None:
        for answer in (-1, 2, 1.5, None, "0", True):
            with pytest.raises(OperatorError) as caught:
                self.once(
                    "partition", (0,), (0, 1), [[["first", "bad"]]],
                    partitioner=lambda record, n, answer=answer: answer if record == "bad" else 0,
                )  # fmt: skip
            assert "bad" in str(caught.value), f"the answer {answer!r} was not blamed on its record"

    @needs("partition", "ranges")
    def test_ranges_by_given_bounds(self) -> None:
        feeds = [[list(range(0, 300, 2))], [list(range(1, 300, 2))]]
        got = self.once("partition", (0, 1), (0, 1, 1), feeds, partitioner="range", bounds=[100, 250])
        assert [sorted(flat(items)) for _, items in sorted(got.items())] == [
            list(range(100)),
            list(range(100, 250)),
            list(range(250, 300)),
        ]

    @needs("partition", "ranges")
    def test_ranges_from_a_sample_are_in_order_and_even(self) -> None:
        numbers = [(number * 7919) % 4001 for number in range(4001)]
        feeds = [[numbers[:10], numbers[10:3000]], [numbers[3000:]], []]
        for descending in (False, True):
            got = self.once(
                "partition", (0, 1, 0), (1, 0, 1), feeds, partitioner="range", key=lambda record: record,
                descending=descending,
            )  # fmt: skip
            parts = [sorted(flat(items)) for _, items in sorted(got.items(), reverse=descending)]
            assert [number for part in parts for number in part] == sorted(numbers)
            assert all(800 < len(part) < 2000 for part in parts), [len(part) for part in parts]
        assert flat(self.once("partition", (0,), (0, 0), [[]], partitioner="range")[0]) == []

    @needs("direct")
    def test_direct_goes_from_each_source_to_its_target(self) -> None:
        feeds = [[[source, number] for number in range(20)] for source in range(3)]
        got = self.once("direct", (0, 1, 1), (1, 1, 0), feeds)
        for target, items in got.items():
            assert batches(items) == feeds[target]
        with pytest.raises(OperatorError):
            self.once("direct", (0,), (0, 0), [[]])

    @needs("gather")
    def test_gather_brings_everything_to_one(self) -> None:
        feeds = [[[source * 100 + number] for number in range(30)] for source in range(3)]
        got = self.once("gather", (0, 1, 2), (1,), feeds)
        for source in range(3):
            from_it = [item.value[0] for item in got[0] if item.source == source and item.kind == HeaderKind.DATA]
            assert from_it == [source * 100 + number for number in range(30)]
        assert len(flat(got[0])) == 90

    @needs("broadcast")
    def test_broadcast_brings_everything_to_all(self) -> None:
        feeds = [[[number] for number in range(200)]]
        got = self.once("broadcast", (1,), (0, 1, 1, 2), feeds)
        for items in got.values():
            assert flat(items) == list(range(200))

    @needs("barrier")
    def test_barrier_ends_when_all_have_finished(self) -> None:
        got = self.once("barrier", (0, 1, 1), (0, 1), [[], [], []])
        assert [batches(items) for items in got.values()] == [[], []]

    # -- keys ------------------------------------------------------------------------------------------------------

    @needs("keyed_partition")
    def test_pairs_of_a_key_meet(self) -> None:
        @few
        @given(exchanges(st.tuples(keys, st.integers())))
        def check(case: tuple[Any, ...]) -> None:
            sources, targets, feeds = case
            got = self.once("keyed_partition", sources, targets, feeds)
            for target, items in got.items():
                assert all(task_of_key(key, len(targets)) == target for key, _ in flat(items))
            assert bag([pair for items in got.values() for pair in flat(items)]) == bag(everything(feeds))

        check()

    @needs("keyed_reduce")
    def test_keyed_reduce_is_what_plain_python_says(self) -> None:
        @few
        @given(exchanges(st.tuples(keys, st.integers(-100, 100))))
        def check(case: tuple[Any, ...]) -> None:
            sources, targets, feeds = case

            def times(a: Any, b: Any) -> Any:
                return a * b

            for reducer, function in (("sum", python_operator.add), (max, max), (times, times)):
                expected: dict[Any, Any] = {}
                for key, value in everything(feeds):
                    expected[key] = function(expected[key], value) if key in expected else value
                got = self.once("keyed_reduce", sources, targets, feeds, reducer=reducer)
                pairs = [(target, pair) for target, items in got.items() for pair in flat(items)]
                assert all(task_of_key(key, len(targets)) == target for target, (key, _) in pairs)
                assert len(pairs) == len(expected), "a key came twice, or not at all"
                assert dict(pair for _, pair in pairs) == expected

        check()

    @needs("count_by_value")
    def test_counts_are_those_of_counter(self) -> None:
        @few
        @given(exchanges(keys))
        def check(case: tuple[Any, ...]) -> None:
            sources, targets, feeds = case
            got = self.once("count_by_value", sources, targets, feeds)
            pairs = [pair for items in got.values() for pair in flat(items)]
            assert len(pairs) == len(dict(pairs))
            assert dict(pairs) == Counter(everything(feeds))

        check()

    @needs("keyed_reduce")
    def test_awkward_keys(self) -> None:
        nan = float("nan")
        pairs = [(None, 1), (nan, 1), (float("nan"), 1), (1, 1), (1.0, 1), (True, 1), (numpy.int64(1), 1), ("", 1)]
        got = self.once("keyed_reduce", (0, 1), (0, 1), [[pairs], [pairs]], reducer="sum")
        found = [(named(key), value) for items in got.values() for key, value in flat(items)]
        assert len(found) == 4, "a key came twice"
        assert dict(found) == {None: 2, "NaN": 4, 1: 8, "": 2}
        for bad in ([1], {}, object()):
            with pytest.raises(KeyHashError) as caught:
                self.once("keyed_reduce", (0, 1), (0, 1), [[[(1, 1)], [(bad, 1)]], []], reducer="sum")
            assert caught.value.remedy

    @needs("keyed_reduce")
    def test_records_that_are_no_pairs_are_refused(self) -> None:
        for bad in (7, "ab", None, (1, 2, 3)):
            with pytest.raises(OperatorError) as caught:
                self.once("keyed_reduce", (0,), (0,), [[[bad]]], reducer="sum")
            assert repr(bad) in str(caught.value)

    # -- one value -------------------------------------------------------------------------------------------------

    @needs("allreduce")
    def test_allreduce_is_the_same_everywhere(self) -> None:
        @few
        @given(exchanges(st.floats(-1e6, 1e6)))
        def check(case: tuple[Any, ...]) -> None:
            sources, targets, feeds = case
            runs = self.run(
                Exchange(
                    name="allreduce", sources=sources, targets=targets, feeds=feeds, options={"reducer": "sum"}, runs=2
                )
            )
            answers = [flat(items) for received in runs for items in received.values()]
            assert all(answer == answers[0] for answer in answers), "the answer differs between targets or runs"
            values = everything(feeds)
            assert answers[0] == ([pytest.approx(sum(values), rel=1e-9, abs=1e-6)] if values else [])

        check()

    @needs("reduce")
    def test_reduce_with_and_without_records(self) -> None:
        feeds: list[Any] = [[[3, 1]], [], [[4], []]]
        assert flat(self.once("reduce", (0, 1, 2), (1,), feeds, reducer=max)[0]) == [4]
        assert flat(self.once("reduce", (0, 1, 2), (1,), feeds, reducer="sum", initial=100)[0]) == [108]
        assert flat(self.once("reduce", (0, 1), (0,), [[], []], reducer="sum")[0]) == []
        assert flat(self.once("reduce", (0, 1), (0,), [[], []], reducer="sum", initial=5)[0]) == [5]
