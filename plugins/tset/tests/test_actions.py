"""Actions: guards, tables, reading no further than needed, graphs that are made once, lazy ends."""

from __future__ import annotations

import gc
import itertools
import math
import weakref
from unittest import mock

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twister2.spec.errors import GraphError, OperatorError, ResultError, UsageError
from twister2.spec.tasks import Sink
from twister2_testkit.graphs import run_workers
from twister2_tset import TSetContext
from twister2_tset.partials import missing


def test_collect_has_guards_by_records_and_by_bytes(everywhere):
    with pytest.raises(ResultError, match="more than 1 MiB") as caught:
        everywhere(2, lambda context: context.parallelize(["x" * 1000] * 3000, 3).collect(limit_mb=1))
    assert "limit_mb" in caught.value.remedy
    with pytest.raises(ResultError, match="more than 5 records"):
        everywhere(2, lambda context: context.parallelize(range(9), 3).gather(limit=5))


def test_collect_gives_one_table(everywhere):
    import pyarrow

    def job(context):
        table = pyarrow.table({"a": list(range(10)), "b": list("abcdefghij")})
        whole = context.parallelize(table, 3).collect(form="arrow")
        rows = context.parallelize([{"a": 1, "c": None}, {"a": 2, "c": 0.5}], 2).collect(form="arrow")
        none = context.parallelize([], 2).with_schema({"n": int, "s": str}).where("n", ">", 1).collect(form="arrow")
        return whole.equals(table), rows.to_pylist(), none.schema.names, context.parallelize([]).collect(form="arrow")

    same, rows, names, nothing = everywhere(2, job)
    assert same
    assert rows == [{"a": 1, "c": None}, {"a": 2, "c": 0.5}]
    assert names == ["n", "s"]
    assert nothing.num_rows == 0


def test_rows_that_lack_columns_become_columns_with_all_of_them(everywhere):
    rows = [{"a": 1}, {"b": "x", "a": 2}, {"c": 0.5}]

    def job(context):
        records = context.parallelize(rows, 1)
        return records.collect(form="arrow").to_pylist(), records.map_batches(
            lambda batch: batch, form="arrow"
        ).collect()

    full = [{name: row.get(name) for name in "abc"} for row in rows]
    assert everywhere(2, job) == (full, full)


def test_the_table_of_no_records_has_the_columns_that_are_known(everywhere, tmp_path):
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"k": [1, 2, 3], "s": ["a", "b", "c"]})
    pyarrow.parquet.write_table(table, tmp_path / "table.parquet")

    def job(context):
        none = context.parallelize(table).where("k", ">", 3)
        read = context.read_parquet(tmp_path / "table.parquet").where("k", ">", 3)
        known = [none, none.sort("k"), none.distinct("k"), none.partition(key="k"), none.select("k", "s"), read.cache()]
        found = [records.collect(form="arrow") for records in known]
        return found, read.cache().join(none.select("k"), on="k").cache().collect(form="arrow")

    found, joined = everywhere(2, job)
    for each in (*found, joined):
        assert each.schema == table.schema
        assert each.num_rows == 0


def test_columns_stay_columns(everywhere):
    import numpy
    import pyarrow

    def job(context):
        seen = []
        array = numpy.arange(10.0).reshape(5, 2)
        rows = context.parallelize(array, 2).map_batches(lambda batch: seen.append(type(batch)) or batch)
        table = context.parallelize(pyarrow.table({"n": range(6)}), 2)
        array[:] = 0
        total = rows.map(lambda row: float(row.sum())).sum()
        halves = table.map_batches(lambda batch: seen.append(type(batch)) or batch).sum("n")
        objects = context.parallelize(numpy.array([None, "a"], dtype=object), 2).collect()
        kinds = {kind for part in context.env.network.exchange_objects(seen, what="seen") for kind in part}
        return total, halves, objects, kinds

    assert everywhere(2, job) == (45.0, 15, [None, "a"], {numpy.ndarray, pyarrow.RecordBatch})


def test_sums_of_columns_are_exact(everywhere):
    import numpy
    import pyarrow

    def job(context):
        large = context.parallelize(numpy.array([2**62] * 5), 2)
        column = context.parallelize(pyarrow.table({"n": pyarrow.array([2**62, None, 2**62, 2**62], "int64")}), 2)
        return large.sum(), column.sum("n"), column.mean("n"), column.count(), large.variance()

    assert everywhere(2, job) == (5 * 2**62, 3 * 2**62, 2.0**62, 4, 0.0)


def test_sums_of_small_floats_are_made_in_large_ones(everywhere):
    import numpy
    import pyarrow

    single = numpy.array([1e7, 1e7 + 1, 1e7 + 2, 1e7 + 3] * 1000, "float32")
    half = numpy.array([60_000, 60_000, 3], "float16")

    def job(context):
        columns = [context.parallelize(pyarrow.table({"v": array}), 2) for array in (single, half)]
        arrays = [context.parallelize(array, 2) for array in (single, half)]
        of_columns = [(one.sum("v"), one.mean("v"), one.variance("v")) for one in columns]
        return of_columns, [(one.sum(), one.mean(), one.variance()) for one in arrays]

    of_columns, of_arrays = everywhere(2, job)
    plain = [
        (math.fsum(array), numpy.mean(array, dtype=float), numpy.var(array, dtype=float)) for array in (single, half)
    ]
    for found in (of_columns, of_arrays):
        assert [pytest.approx(each, rel=1e-9) for each in plain] == found


def test_truth_values_of_groups_have_a_variance_in_columns_too(everywhere):
    import pyarrow

    rows = [{"k": number % 2, "v": number % 3 == 0} for number in range(9)] + [{"k": 0, "v": None}]

    def job(context):
        sets = context.parallelize(rows, 2), context.parallelize(pyarrow.Table.from_pylist(rows), 2)
        return [dict(one.group_by("k").variance("v").collect()) for one in sets]

    of_rows, of_columns = everywhere(2, job)
    assert of_rows == pytest.approx({0: 0.24, 1: 0.1875})
    assert of_columns == pytest.approx(of_rows)


def test_take_reads_no_further_than_it_must(everywhere):
    def job(context):
        numbers = context.source(lambda partition: itertools.count(partition), 3).filter(lambda x: x % 2)
        return numbers.take(5), numbers.first(), numbers.is_empty(), numbers.map(str).take(5)

    assert everywhere(2, job) == ([1, 3, 5, 7, 9], 1, False, ["1", "3", "5", "7", "9"])


def test_nothing_has_no_first_no_least_and_no_mean(everywhere):
    def job(context):
        empty = context.parallelize([], 3)
        for action in ("first", "min", "max", "mean", "variance"):
            with pytest.raises(GraphError, match=f"{action}: the set has no records"):
                getattr(empty, action)()
        return empty.first(default=7), empty.take(3), empty.is_empty(), empty.sum(), empty.aggregate(0, max)

    assert everywhere(2, job) == (7, [], True, 0, 0)


@settings(max_examples=20, deadline=None, database=None)
@given(
    keys=st.lists(st.sampled_from([3, 1, 2.5, math.inf, math.nan, None]), min_size=1, max_size=9),
    n=st.integers(0, 10),
    n_workers=st.integers(1, 3),
    largest=st.booleans(),
)
def test_the_missing_are_the_last_of_the_largest_and_of_the_smallest(keys, n, n_workers, largest):
    rows = [{"k": key, "at": at} for at, key in enumerate(keys)]
    there = sorted((row for row in rows if not missing(row["k"])), key=lambda row: row["k"], reverse=largest)
    lost = sorted((row for row in rows if missing(row["k"])), key=lambda row: missing(row["k"]))
    expected = [row["at"] for row in [*there, *lost]]
    column = pa.array([None if key is None else float(key) for key in keys], "double")
    table = pa.table({"k": column, "at": range(len(keys))})

    def job(env):
        context = TSetContext(env)
        for rowed in (context.parallelize(rows, 4), context.parallelize(table, 4)):
            yield [row["at"] for row in rowed.top(n, "k", largest=largest)]
            yield rowed.max("k")["at"] if largest else rowed.min("k")["at"]
        yield context.parallelize(rows, 4).map(lambda row: row["k"]).top(n, largest=largest)

    for found in run_workers(n_workers, lambda env: list(job(env))):
        assert found[:4] == [expected[:n], expected[0]] * 2
        assert repr(found[4]) == repr([keys[at] for at in expected[:n]])


def test_an_action_in_a_loop_is_prepared_once(run_workers):
    from twister2.worker import execute

    planned = mock.Mock(wraps=execute.compile_graph)

    def program(env):
        numbers = TSetContext(env).parallelize(range(10), 2)
        env.barrier()
        before = planned.call_count
        env.barrier()
        found = {(numbers.count(), numbers.reduce(max), numbers.sum(), *numbers.take(2)) for _ in range(5)}
        env.barrier()
        return found, planned.call_count - before

    with mock.patch.object(execute, "compile_graph", planned):
        results = run_workers(2, program)
    assert results == [({(10, 9, 45, 0, 1)}, 8)] * 2


def test_what_is_remembered_of_a_set_goes_with_it(run_workers):
    def program(env):
        context = TSetContext(env)
        numbers = context.parallelize(range(10), 2)
        for _ in range(30):
            numbers.reduce(lambda a, b: a + b)
        numbers.collect(), numbers.take(1), numbers.count(), numbers.aggregate([], lambda a, x: [*a, x], list.__add__)
        gone = weakref.ref(numbers._node)
        del numbers
        gc.collect()
        return gone() is None

    assert run_workers(1, program) == [True]


def test_stored_records_that_change_are_seen_by_a_remembered_action(everywhere):
    def job(context):
        kept = context.parallelize(range(4), 2).cache()
        found = []
        for _ in range(3):
            found.append((kept.sum(), kept.zip_with_index().count()))
            context.run_and_update(kept.map(lambda x: x + 1), kept)
        context.run_and_update(kept.partition(partitions=3), kept)
        return [*found, (kept.sum(), kept.zip_with_index().count())]

    assert everywhere(2, job) == [(6, 4), (10, 4), (14, 4), (18, 4)]


class Keeps(Sink):
    """Keeps what it is given."""

    def __init__(self, partition):
        self.partition, self.records = partition, []

    def write(self, batch, edge):
        self.records.extend(batch)

    def output(self):
        return self.partition, self.records


def test_lazy_ends_run_when_they_are_told_and_share_what_they_follow(run_workers):
    def program(env):
        calls, seen, context = [], [], TSetContext(env)
        base = context.parallelize(range(6), 3).map(lambda x: calls.append(x) or x)
        odd = base.filter(lambda x: x % 2).lazy_for_each(seen.append)
        kept = base.map(lambda x: -x).sink(Keeps)
        assert calls == []
        first = context.run(odd, kept)
        mine = len(calls)
        assert (len(calls), first[0]) == (len(first[1]) * 2, [None] * len(first[1]))
        odd.run()
        assert kept.run() == first[1]
        assert len(calls) == 3 * mine
        return first[1], sorted(seen)

    found = run_workers(2, program)
    assert sorted(pair for kept, _ in found for pair in kept) == [(0, [0, -1]), (1, [-2, -3]), (2, [-4, -5])]
    assert sorted(x for _, seen in found for x in seen) == [1, 1, 3, 3, 5, 5]


def one_pair(context):
    return context.parallelize([(1, 1)])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda c: c.run(), "nothing to run"),
        (lambda c: c.run(c.parallelize([1])), "is no end of a set"),
        (lambda c: c.parallelize([1]).sink("x"), "sink: make is 'x'"),
        (lambda c: c.parallelize([1]).take(-1), "take: n is -1"),
        (lambda c: c.parallelize([1]).sample(2), "sample: fraction is 2"),
        (lambda c: c.parallelize([1]).sample(0.5, "x"), "sample: seed is 'x'"),
        (lambda c: c.parallelize([1]).sort(1), "sort: key is 1"),
        (lambda c: c.parallelize([1]).sort("a", "b", descending=[True]), "descending is"),
        (lambda c: c.parallelize([1]).group_by(), "there is no key"),
        (lambda c: c.parallelize([1]).select(), "nothing is named"),
        (lambda c: c.parallelize([1]).where("a", "like", 1), "no relation 'like'"),
        (lambda c: c.parallelize([1]).where("a", "==", None), "the value is None"),
        (lambda c: c.parallelize([1]).where("a", "in", "abc"), "no collection"),
        (lambda c: c.parallelize([1]).named(""), "'' is no name"),
        (lambda c: c.parallelize([1]).with_schema({"a": "nothing"}), "is no type"),
        (lambda c: c.parallelize([1]).with_schema([1]), "is no schema"),
        (lambda c: c.parallelize([1]).save("folder"), "does not say its format"),
        (lambda c: c.load("folder"), "does not say its format"),
        (lambda c: c.load(["a.csv", "b.txt"]), "different formats"),
        (lambda c: c.parallelize([1]).cross([1]), "is no set"),
        (lambda c: c.parallelize([(1, 1)]).keyed_gather(order=True, comparator=max), "given together"),
        (lambda c: one_pair(c).join(one_pair(c), comparator=max), "the algorithm is 'hash'"),
        (lambda c: one_pair(c).join(one_pair(c), algorithm="sort", comparator=3), "comparator"),
        (lambda c: one_pair(c).join(one_pair(c), on="k", algorithm="sort", comparator=max), "given together"),
        (lambda c: c.parallelize([1]).partition(7), "partitioner is 7"),
        (lambda c: c.parallelize([1]).variance(ddof=-1), "ddof is -1"),
        (lambda c: c.parallelize([1]).aggregate(0, 1), "add is 1"),
    ],
)
def test_wrong_use_is_told_at_once(run_workers, wrong, message):
    with pytest.raises(UsageError, match=message):
        run_workers(1, lambda env: wrong(TSetContext(env)))


def test_strict_zip_of_different_lengths(everywhere):
    with pytest.raises(OperatorError, match="one set has 5 records, the other 4"):
        everywhere(2, lambda c: c.parallelize(range(5), 2).zip(c.parallelize(range(4), 3), strict=True).collect())
