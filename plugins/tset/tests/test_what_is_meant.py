"""What people who know other systems write: refused where it is written, with what it is called here."""

from __future__ import annotations

import functools
from collections import namedtuple

import numpy
import pyarrow
import pytest

from twister2.spec.errors import DataFormatError, OperatorError, UsageError
from twister2_net.combining.folds import NAMES
from twister2_testkit.graphs import run_workers
from twister2_tset import TSetContext
from twister2_tset.grouping import RESULTS
from twister2_tset.problems import check_function

pytestmark = pytest.mark.timeout(120)
ROWS = [{"town": "abc"[i % 3], "n": i if i % 4 else None, "price": i / 2} for i in range(12)]
Point = namedtuple("Point", "x y")


def wrapped(function):
    @functools.wraps(function)
    def around(record):
        return function(record, 1)

    return around


class Adder:
    def __call__(self, one, other):
        return one + other

    def method(self, record):
        return record


FITTING = [
    (lambda record: record, 1),
    (lambda record, other=1: record, 1),
    (lambda *records: records, 1),
    (lambda *records: records, 2),
    (lambda record, *, more=1: record, 1),
    (lambda record, context: record, 1),
    (lambda record, *, context: record, 1),
    (lambda context: context, 1),
    (wrapped(lambda record, more: record), 1),
    (functools.partial(lambda more, record: record, 1), 1),
    (functools.lru_cache(lambda record: record), 1),
    (Adder(), 2),
    (Adder().method, 1),
    (Point, 2),
    (str, 1),
    (int, 1),
    (dict, 1),
    (len, 1),
    (max, 2),
    (str.split, 1),
    (str.upper, 1),
    (print, 1),
]


@pytest.mark.parametrize(("function", "n"), FITTING)
def test_functions_that_fit_are_taken(function, n):
    wants = function is FITTING[5][0] or function is FITTING[6][0]
    check_function(function, "step", given=("one", "other")[:n], context=wants)


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (lambda s, f: s.map(f(2)), r"map: .*\(a, b\) cannot be called with \(record\)"),
        (lambda s, f: s.map(f(0)), r"map: .*\(\) cannot be called with \(record\)"),
        (lambda s, f: s.map(Point), r"map: Point\(x, y\) cannot be called"),
        (lambda s, f: s.map(lambda record, *, more: 1), "map: .*more"),
        (lambda s, f: s.map(lambda record, more, context: 1), "map: .*cannot be called"),
        (lambda s, f: s.flat_map(f(2)), "flat_map: "),
        (lambda s, f: s.filter(f(2)), "(?s)filter: .*predicate is given 1"),
        (lambda s, f: s.map_to_tuple(f(2)), "map_to_tuple: "),
        (lambda s, f: s.map_batches(f(2)), r"map_batches: .*\(batch\)"),
        (lambda s, f: s.map_partitions(f(2)), r"map_partitions: .*\(records\)"),
        (lambda s, f: s.compute(f(2)), r"compute: .*\(records\)"),
        (lambda s, f: s.compute(f(1), collector=True), r"compute: .*\(records, collect\)"),
        (lambda s, f: s.map_values(f(2)), r"map_values: .*\(value\)"),
        (lambda s, f: s.flat_map_values(f(2)), "flat_map_values: "),
        (lambda s, f: s.for_each(f(2)), "for_each: "),
        (lambda s, f: s.key_by(f(2)), "(?s)key_by: .*key is given 1"),
        (lambda s, f: s.key_by(lambda record, context: 1), "key_by: .*context"),
        (lambda s, f: s.group_by(f(2)), "group_by: "),
        (lambda s, f: s.group_by(f(1)).map_groups(f(1)), r"map_groups: .*\(key, records\)"),
        (lambda s, f: s.group_by(f(1)).reduce(f(1)), r"reduce: .*\(one, other\)"),
        (lambda s, f: s.group_by(f(1)).sum(f(2)), "(?s)sum: .*value is given 1"),
        (lambda s, f: s.group_by(f(1)).agg(x=(f(2), "sum")), "(?s)agg: .*x is given 1"),
        (lambda s, f: s.reduce(f(1)), "(?s)reduce: .*reducer is given 2"),
        (lambda s, f: s.all_reduce(f(3)), "all_reduce: "),
        (lambda s, f: s.keyed_reduce(f(1)), "keyed_reduce: "),
        (lambda s, f: s.aggregate(0, f(1)), r"(?s)aggregate: .*\(total, record\).*add is given 2"),
        (lambda s, f: s.aggregate(0, f(2), f(1)), "(?s)aggregate: .*merge is given 2"),
        (lambda s, f: s.keyed_aggregate(0, f(1), f(2)), "keyed_aggregate: "),
        (lambda s, f: s.partition(f(1)), r"partition: .*\(record, n_partitions\)"),
        (lambda s, f: s.keyed_partition(f(3)), "keyed_partition: "),
        (lambda s, f: s.sort(f(2)), "sort: "),
        (lambda s, f: s.sort(comparator=f(1)), "(?s)sort: .*comparator is given 2"),
        (lambda s, f: s.distinct(f(2)), "distinct: "),
        (lambda s, f: s.top(1, f(2)), "top: "),
        (lambda s, f: s.sum(f(2)), "sum: "),
        (lambda s, f: s.sink(f(0)), r"sink: .*\(partition\)"),
        (lambda s, f: s.context.source(f(0)), r"source: .*\(partition\)"),
    ],
)
def test_functions_of_another_arity_are_refused_where_they_are_written(step, text):
    functions = [lambda: 1, lambda a: a, lambda a, b: a, lambda a, b, c: a]

    def job(env):
        with pytest.raises(UsageError, match=text) as caught:
            step(TSetContext(env).parallelize([1, 2, 3]), functions.__getitem__)
        assert "(test_what_is_meant.py:" in caught.value.where

    run_workers(1, job)


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (lambda s: s.join(s, "outer", on="town"), "how is 'outer'.*give 'full'"),
        (lambda s: s.join(s, "full_outer"), "give 'full'"),
        (lambda s: s.join(s, "leftOuter"), "give 'left'"),
        (lambda s: s.join(s, "right_outer"), "give 'right'"),
        (lambda s: s.join(s, "leftsemi"), "give 'semi'"),
        (lambda s: s.join(s, "left_anti"), "give 'anti'"),
        (lambda s: s.join(s, "cross"), r"cross\(other\)"),
        (lambda s: s.join(s, "innr"), "give 'inner'"),
        (lambda s: s.join(s, "town"), "named by on='town'"),
        (lambda s: s.join(s, ["town"]), r"named by on=\['town'\]"),
        (lambda s: s.join(s, algorithm="merge"), "algorithm is 'merge'.*hash, sort"),
        (lambda s: s.join(s, broadcast=True), "broadcast is True.*auto, left, right, no"),
        (lambda s: s.group_by("town").agg(x=("n", "avg")), "agg: x is 'avg'.*give 'mean'"),
        (lambda s: s.group_by("town").agg({"n": "nunique"}), "give 'count_distinct'"),
        (lambda s: s.group_by("town").agg({"n": "stddev"}), "give 'std'"),
        (lambda s: s.group_by("town").agg(x=("n", "collect_list")), "give 'list'"),
        (lambda s: s.group_by("town").agg(x=("n", "first")), r"distinct\(key\)"),
        (lambda s: s.group_by("town").agg(x="n"), r'\("column", "sum"\)'),
        (lambda s: s.group_by("town").agg({"n": ["sum", "min"]}), "n is .*it is one of sum, min"),
        (lambda s: s.where("n", "=", 3), "there is no relation '='.*not in, is null, is not null"),
        (lambda s: s.where("n", "is null", 3), "takes no value"),
        (lambda s: s.where("n", "not in", "abc"), "'not in' looks for"),
        (lambda s: s.where("n", "!=", None), 'where.column, "is not null"'),
        (lambda s: s.map_batches(list, form="pandas"), "form is 'pandas'.*any, list, numpy, arrow"),
        (lambda s: s.limit(-1), "limit: n is -1"),
        (lambda s: s.show(0), "show: n is 0"),
    ],
)
def test_words_of_other_systems_are_refused_where_they_are_written(step, text):
    def job(env):
        with pytest.raises(UsageError, match=f"(?s){text}"):
            step(TSetContext(env).parallelize(ROWS))

    run_workers(1, job)


def test_results_of_groups_are_those_of_the_operator():
    assert RESULTS == NAMES


UNKNOWN = {
    "select": lambda s: s.select("town", "nn"),
    "where": lambda s: s.where("nn", ">", 1),
    "key_by": lambda s: s.key_by("nn"),
    "sort": lambda s: s.sort("town", "nn"),
    "distinct": lambda s: s.distinct("nn"),
    "partition": lambda s: s.partition(key="nn"),
    "group_by": lambda s: s.group_by("nn").count(),
    "agg": lambda s: s.group_by("town").agg(x=("nn", "sum")),
    "max": lambda s: s.group_by("town").max("nn"),
    "join": lambda s: s.join(s, on={"town": "nn"}),
    "sum": lambda s: s.sum("nn"),
    "mean": lambda s: s.mean("nn"),
    "top": lambda s: s.top(2, "nn"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_columns_that_are_known_to_be_missing_are_named_before_anything_runs(name):
    def job(env):
        context = TSetContext(env)
        table = context.parallelize(pyarrow.Table.from_pylist(ROWS)).where("n", ">", 2).limit(5)
        with pytest.raises(UsageError, match=f"{name}: there is no column 'nn'; did you mean 'n'") as caught:
            UNKNOWN[name](table)
        assert "(test_what_is_meant.py:" in caught.value.where
        assert "the columns are: town, n, price" in caught.value.why

    run_workers(1, job)


@pytest.mark.parametrize("name", UNKNOWN)
def test_columns_that_rows_lack_are_named_when_it_runs(name):
    with pytest.raises(OperatorError, match=r"(?s)'nn'.*(n, price|did you mean 'n')"):
        run_workers(2, lambda env: UNKNOWN[name](TSetContext(env).parallelize(ROWS)).collect())


def test_what_is_kept_may_get_other_columns(everywhere):
    """So what it has now says nothing about steps behind it."""

    def job(context):
        kept = context.parallelize(pyarrow.table({"a": [1, 2]})).cache()
        behind = kept.where("b", ">", 1)
        context.run_and_update(context.parallelize(pyarrow.table({"b": [1, 2]})), kept)
        return behind.collect()

    assert everywhere(2, job) == [{"b": 2}]


def test_what_meets_may_have_other_columns(everywhere):
    def job(context):
        empty, one, other = (
            context.parallelize(pyarrow.table(columns))
            for columns in ({}, {"kind": ["x"], "a": [1]}, {"kind": ["y"], "b": [2]})
        )
        return one.union(other).filter(lambda row: "b" in row).select("b").collect(), empty.union(other).sum("b")

    assert everywhere(2, job) == ([{"b": 2}], 2)


@pytest.mark.parametrize("form", ["list", "arrow"])
@pytest.mark.parametrize(
    ("step", "text"),
    [
        (lambda s: s.sum("town"), "sum: '[abc]', town of .*is no number"),
        (lambda s: s.mean("town"), "mean: '[abc]', town of .*is no number"),
        (lambda s: s.group_by("n").sum("town").collect(), r"sum .*cannot (combine|make the sum of the column 'town')"),
        (lambda s: s.group_by("n").mean("town").collect(), "mean .*cannot"),
        (lambda s: s.group_by("n").median("town").collect(), "median .*cannot"),
        (lambda s: s.group_by("n").agg(x=("town", "sum")).collect(), "agg .*cannot"),
        (lambda s: s.key_by("n").map_values(str).group_by_key().sum().collect(), "sum .*cannot"),
    ],
)
def test_text_is_no_number(step, text, form):
    data = ROWS if form == "list" else pyarrow.Table.from_pylist(ROWS)
    with pytest.raises(OperatorError, match=text):
        run_workers(2, lambda env: step(TSetContext(env).parallelize(data, 2)))


def test_rows_that_are_joined_without_columns_are_told_of_them():
    def job(env):
        rows = TSetContext(env).parallelize(ROWS)
        rows.join(rows).collect()

    with pytest.raises(OperatorError, match="pairs") as caught:
        run_workers(2, job)
    assert 'on="name"' in caught.value.remedy


def test_the_plan_names_the_set_that_is_sent_to_all(run_workers):
    def job(env):
        context = TSetContext(env)
        small, large = context.parallelize([(1, 2)]).named("small"), context.parallelize([(1, 3)]).named("large")
        plans = [small.join(large, broadcast="left"), large.join(small, "left", broadcast="right")]
        rows = [context.parallelize(ROWS).named(name) for name in ("small", "large")]
        return [plan.explain() for plan in [*plans, rows[1].join(rows[0], on="n", broadcast="right")]]

    for plan in run_workers(1, job)[0]:
        assert ", small: parallelize (test_what_is_meant.py:" in plan
        assert ") to all partitions" in plan


@pytest.mark.parametrize("form", ["list", "arrow"])
def test_lists_are_no_fields_of_csv(form, tmp_path):
    data = [{"a": 1, "b": [1, 2]}]

    def job(env):
        kept = data if form == "list" else pyarrow.Table.from_pylist(data)
        TSetContext(env).parallelize(kept).write_csv(tmp_path / "out")

    with pytest.raises(DataFormatError, match="'b' cannot be written as CSV: its type is list") as caught:
        run_workers(1, job)
    assert "write_csv (test_what_is_meant.py:" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_no_limit_is_none(everywhere):
    def job(context):
        numbers = context.parallelize(range(9), 3)
        return numbers.collect(limit=None, limit_mb=None), numbers.gather(limit=None), numbers.collect(limit=9)

    assert everywhere(2, job) == (list(range(9)), [[0, 1, 2], [3, 4, 5], [6, 7, 8]], list(range(9)))


def test_a_limit_reads_no_further_than_it_must(everywhere, tmp_path):
    import pyarrow.parquet

    table = pyarrow.table({"n": range(50_000), "s": ["text"] * 50_000})

    def job(context):
        if context.env.worker_id == 0:
            pyarrow.parquet.write_table(table, tmp_path / "some.parquet", row_group_size=100)
        context.env.barrier()
        some = context.read_parquet(tmp_path / "some.parquet").where("n", ">", 3).limit(2)
        assert "reads n only" in some.select("n").explain()
        rows, first = some.select("n").collect(), some.take(1)
        return rows, first, context.read_report().records < 25_000

    assert everywhere(2, job) == ([{"n": 4}, {"n": 5}], [{"n": 4, "s": "text"}], True)


def test_the_first_records_are_shown_as_a_table(run_workers, capsys):
    def job(env):
        context = TSetContext(env)
        context.parallelize([*ROWS[:2], {"town": "d\n", "x": [1] * 99}], 3).show()
        context.parallelize([(1, "one"), (20, "two"), (3, "three")], 2).show(2)
        context.parallelize([]).show()

    run_workers(2, job)
    assert capsys.readouterr().out.splitlines() == [
        "town      n  price  x",
        "-----  ----  -----  ----------------------------------------",
        "a      None    0.0",
        "b         1    0.5",
        r"'d\n'               [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, ...",
        " 1  one",
        "20  two",
        "(and more)",
        "(no records)",
    ]


def test_whole_numbers_of_numpy_do_not_overflow(everywhere):
    """What functions take out of small arrays is of their type, which holds no sum of many."""
    small = [numpy.int8(100)] * 3

    def job(context):
        numbers, pairs = context.parallelize(small, 2), context.parallelize([("k", n) for n in small], 2)
        return (
            numbers.sum(),
            numbers.mean(),
            numbers.map(lambda n: (n, 1)).sum(lambda pair: pair[0]),
            pairs.group_by_key().sum().collect(),
            pairs.group_by_key().mean().collect(),
            numbers.group_by(lambda n: 0).sum().collect(),
        )

    assert everywhere(2, job) == (300, 100, 300, [("k", 300)], [("k", 100)], [(0, 300)])
