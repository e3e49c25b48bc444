"""Base classes of tasks that say what comes to them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twister2.graph import Graph
from twister2.graph.typed import (
    BATCH,
    FunctionSink,
    GatherCompute,
    JoinCompute,
    KeyedGatherCompute,
    KeyedReduceCompute,
    RecordCompute,
    RecordSink,
    RecordSource,
    ReduceCompute,
)
from twister2.spec.errors import OperatorError, UserCodeError
from twister2_testkit.graphs import run_workers

pytestmark = pytest.mark.timeout(120)


class Given(RecordSource[object]):
    def __init__(self, given):
        self.given = given

    def records(self, context):
        yield from self.given[context.index :: context.parallelism]


class Kept(RecordSink[object]):
    def __init__(self):
        self.seen = []

    def record(self, record):
        self.seen.append(record)

    def output(self):
        return self.seen


class Twice(RecordCompute[int]):
    def record(self, record, emit):
        emit(record)
        emit(record + 1)


class Named(KeyedReduceCompute[int, int]):
    def result(self, key, value, emit):
        emit((f"key {key}", value))


class Sorted(KeyedGatherCompute[int, int]):
    def group(self, key, values, emit):
        emit((key, sorted(values)))


class Both(JoinCompute[int, int, int]):
    def joined(self, key, left, right, emit):
        emit((key, left, right))


class Once(ReduceCompute[int]):
    def value(self, value, emit):
        emit(["the value", value])


class Everything(GatherCompute[int]):
    def gathered(self, records, emit):
        emit(sorted(records))


def results(make, inputs, operator, parallelism=None, n_workers=2, **options):
    """What a compute gives for lists of records, over all workers."""

    def main(env):
        graph = Graph("typed")
        for number, records in enumerate(inputs):
            graph.add_source(f"in {number}", lambda index, records=records: Given(records), 3)
        graph.add_compute("typed", lambda index: make(), parallelism)
        graph.add_sink("out", lambda index: Kept())
        graph.connect([f"in {number}" for number in range(len(inputs))], "typed", operator, **options)
        graph.connect("typed", "out")
        return [record for task in env.run(graph)["out"] for record in task]

    return [record for worker in run_workers(n_workers, main) for record in worker]


PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(-9, 9)), max_size=30)
FEW = settings(max_examples=10, deadline=None, database=None)


@FEW
@given(st.lists(st.integers(), max_size=40))
def test_records_one_by_one(records):
    assert sorted(results(Twice, [records], "net.partition")) == sorted([*records, *(x + 1 for x in records)])


@FEW
@given(PAIRS)
def test_keys_with_what_their_values_were_reduced_to(pairs):
    expected = {}
    for key, value in pairs:
        expected[f"key {key}"] = expected.get(f"key {key}", 0) + value
    assert dict(results(Named, [pairs], "net.keyed_reduce", reducer="sum")) == expected


@FEW
@given(PAIRS)
def test_keys_with_all_their_values(pairs):
    expected = {key: sorted(value for other, value in pairs if other == key) for key, _ in pairs}
    assert dict(results(Sorted, [pairs], "net.keyed_gather", grouped=True)) == expected


@FEW
@given(PAIRS, PAIRS)
def test_both_sides_of_a_join(left, right):
    expected = [(key, one, other) for key, one in left for found, other in right if found == key]
    assert sorted(results(Both, [left, right], "net.join")) == sorted(expected)


def test_a_missing_side_is_none():
    assert results(Both, [[(1, 2)], []], "net.join", how="left") == [(1, 2, None)]


@pytest.mark.parametrize("operator", ["net.reduce", "net.allreduce"])
def test_one_value(operator):
    parallelism = 1 if operator == "net.reduce" else 3
    found = results(Once, [[1, 2, 3, 4, 5]], operator, parallelism, reducer="sum")
    assert found == [["the value", 15]] * parallelism


def test_everything_at_once():
    assert results(Everything, [[3, 1, 2, 5]], "net.gather", 1) == [[1, 2, 3, 5]]
    assert results(Everything, [[]], "net.gather", 1) == [[]]


def test_long_sources_and_long_answers_come_in_batches():
    class Many(RecordCompute[int]):
        def record(self, record, emit):
            for number in range(BATCH + 3):
                emit(number, "a" if number % 2 else "b")

    sizes = {"a": [], "b": []}
    Many().process([1], lambda batch, edge=None: sizes[edge].append(len(batch)), "in")
    assert {edge: sum(each) for edge, each in sizes.items()} == {"a": (BATCH + 3) // 2, "b": (BATCH + 4) // 2}
    records = list(range(7 * BATCH + 5))
    assert sorted(results(Twice, [records], "net.partition")) == sorted([*records, *(x + 1 for x in records)])


def test_a_function_is_a_sink():
    seen = []
    FunctionSink(seen.append).write([1, 2], "in")
    assert seen == [1, 2]


@pytest.mark.parametrize(
    ("make", "records", "words"),
    [
        (Named, [1], "pairs (key, value)"),
        (Named, [(1, 2, 3)], "net.keyed_reduce"),
        (Sorted, [(1, 2)], "pairs (key, values)"),
        (Both, [(1, 2)], "pairs (key, (left, right))"),
    ],
)
def test_another_shape_is_an_error_that_names_edge_and_operator(make, records, words):
    with pytest.raises(OperatorError) as caught:
        results(make, [records], "net.partition", 1)
    assert words in str(caught.value)
    assert "in 0->typed" in str(caught.value)


def test_more_than_one_value_is_an_error():
    with pytest.raises(OperatorError, match="more than one record"):
        results(Once, [[1, 2]], "net.partition", 1)


def test_an_error_names_the_record():
    class Fails(RecordCompute[int]):
        def record(self, record, emit):
            emit(1 // (record - 7))

    with pytest.raises(UserCodeError, match=r"record .*\(7\)") as caught:
        results(Fails, [list(range(10))], "net.partition", 1)
    assert "typed" in str(caught.value)


def test_a_generator_that_is_not_read_to_its_end_is_closed():
    closed = []

    class Endless(RecordSource[int]):
        def records(self, context):
            try:
                number = 0
                while True:
                    number += 1
                    yield number
            finally:
                closed.append(True)

    source = Endless()
    source.context = object()
    for begin in (1, BATCH + 1):
        assert source.poll() == list(range(begin, begin + BATCH))
    source.close()
    assert closed == [True]
