"""Sets whose batches have different forms, together in one step: what comes is what plain lists give."""

from __future__ import annotations

import datetime
import importlib.util
import itertools
import math
from pathlib import Path

import numpy
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from twister2.graph.rewrite import RULES
from twister2.spec.errors import OperatorError
from twister2_testkit import graphs
from twister2_tset import TSetContext

_spec = importlib.util.spec_from_file_location("tset_oracle", Path(__file__).with_name("oracle.py"))
oracle = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(oracle)
PlainSet = oracle.PlainSet

pytestmark = pytest.mark.timeout(300)


def run_workers(n, job, **options):
    return graphs.run_workers(n, job, deadline_s=240.0, **options)


def plain(record):
    """Python's own values in the place of those of numpy; one NaN, and what was grouped in one order."""
    if hasattr(record, "tolist"):
        names = getattr(record.dtype, "names", None)
        record = record.tolist()
        return plain(dict(zip(names, record, strict=True)) if names else record)
    if isinstance(record, dict):
        return {name: plain(record[name]) for name in sorted(record)}
    if isinstance(record, tuple):
        return tuple(map(plain, record))
    if isinstance(record, list):
        return sorted(map(plain, record), key=repr)
    if isinstance(record, (bool, int, float)):
        return "nan" if record != record else round(float(record), 9)
    return record


def shown(found, *, ordered=False):
    if not isinstance(found, list):
        return repr(plain(found))
    texts = [repr(plain(record)) for record in found]
    return texts if ordered else sorted(texts)


def compare(forms, data, step, *, ordered=False, both=False):
    """A step of forms of some data that are neighbours, on one to three workers, against the same of plain lists; with
    more examples of every two different forms on each number of workers.

    :param both: the step takes two sets; else it is given their union.
    """
    some = data[: len(data) // 2]

    def apply(left, right):
        found = step(left, right) if both else step(left.union(right))
        return found.collect() if hasattr(found, "collect") else found

    expected = shown(apply(PlainSet(data), PlainSet(some)), ordered=ordered)
    pairs = list(zip(forms, [*list(forms)[1:], *forms], strict=False))
    each = {n: pairs[n - 1 :: 3] for n in (1, 2, 3)}
    if oracle.EXAMPLES > 8:
        each = {n: list(itertools.permutations(forms, 2)) for n in each}

    def job(env):
        context = TSetContext(env)
        found = {}
        for one, other in each[env.n_workers]:
            left, right = forms[one](context, data), forms[other](context, some)
            found[one, other] = shown(apply(left, right), ordered=ordered)
        return found

    for n in each:
        for worker in run_workers(n, job):
            for pair, found in worker.items():
                assert found == expected, (n, pair)


# -- rows ------------------------------------------------------------------------------------------------------------

ROWS = [{"k": "abc"[number % 3], "n": number % 5, "v": number / 2} for number in range(24)]
DTYPE = [("k", "U1"), ("n", int), ("v", float)]


def structured(data):
    return numpy.array([tuple(row.values()) for row in data], DTYPE)


ROW_FORMS = {
    "dicts": lambda context, data: context.parallelize(data, 2),
    "table": lambda context, data: context.parallelize(pa.Table.from_pylist(data), 3),
    "array": lambda context, data: context.parallelize(structured(data)),
    "filtered": lambda context, data: context.parallelize(pa.Table.from_pylist(data)).filter(lambda row: row["k"]),
    "chosen": lambda context, data: context.parallelize(structured(data), 2).where("k", "in", ["a", "b", "c"]),
    "batches": lambda context, data: context.parallelize(data).map_batches(pa.RecordBatch.from_pylist, form="list"),
    "kept": lambda context, data: context.parallelize(data).with_schema({"k": str, "n": int, "v": float}).lazy_cache(),
}
ROW_STEPS = {
    "sum": lambda rows: rows.group_by("k").sum("v"),
    "several": lambda rows: rows.group_by("k", "n").max("v"),
    "function": lambda rows: rows.group_by(lambda row: row["n"]).count(),
    "distinct": lambda rows: rows.distinct(),
    "distinct by one": lambda rows: rows.distinct("k").map(lambda row: row["k"]),
    "distinct by two": lambda rows: rows.distinct(["k", "n"]).map(lambda row: (row["k"], row["n"])),
    "distinct by function": lambda rows: rows.distinct(lambda row: row["n"]).map(lambda row: row["n"]),
    "gather": lambda rows: rows.key_by("n").keyed_gather().map_values(lambda some: [row["v"] for row in some]),
    "partition": lambda rows: rows.partition(key=["k", "n"]),
    "range": lambda rows: rows.partition("range", key="n"),
    "select": lambda rows: rows.select("n", "k").distinct(),
    "where": lambda rows: rows.where("n", ">", 1).distinct("n").select("n"),
    "again": lambda rows: rows.distinct().union(rows.distinct()).group_by("n").mean("v"),
    "most": lambda rows: rows.max("v")["v"],
    "top": lambda rows: rows.top(3, "v", largest=False)[0]["v"],
    "cross": lambda rows: rows.cross(rows.distinct("k").map(lambda row: row["k"])),
    "sums": lambda rows: (rows.sum("v"), rows.mean("n"), rows.count()),
}


@pytest.mark.parametrize("step", ROW_STEPS)
def test_rows(step):
    compare(ROW_FORMS, ROWS, ROW_STEPS[step])


@pytest.mark.parametrize("descending", [False, True, [True, False, True]])
def test_sorted_rows(descending):
    compare(ROW_FORMS, ROWS, lambda rows: rows.sort("n", "k", "v", descending=descending), ordered=True)


def test_sorted_rows_by_function():
    compare(ROW_FORMS, ROWS, lambda rows: rows.sort(lambda row: (row["n"], row["k"], -row["v"])), ordered=True)


def test_aggregated_rows():
    results = {"total": ("v", "sum"), "least": ("n", "min"), "rows": "count", "spread": ("v", "variance")}
    expected = []
    for key in "abc":
        values = [row["v"] for row in (*ROWS, *ROWS[:12]) if row["k"] == key]
        mean = math.fsum(values) / len(values)
        spread = math.fsum((value - mean) ** 2 for value in values) / len(values)
        expected.append({"k": key, "total": sum(values), "least": 0, "rows": len(values), "spread": spread})

    def job(env):
        context = TSetContext(env)
        return [
            shown(one(context, ROWS).union(other(context, ROWS[:12])).group_by("k").agg(**results).collect())
            for one, other in itertools.pairwise([*ROW_FORMS.values(), ROW_FORMS["dicts"]])
        ]

    for n in (1, 2):
        for worker in run_workers(n, job):
            assert all(found == shown(expected) for found in worker)


@pytest.mark.parametrize("how", ["inner", "full"])
def test_joined_rows(how):
    others = [{"k": key, "w": number} for number, key in enumerate("bbd")]
    expected = shown([{**row, **other} for row in ROWS for other in others if row["k"] == other["k"]])
    if how == "full":
        expected = sorted(
            expected
            + shown([{**row, "w": None} for row in ROWS if row["k"] != "b"])
            + shown([{"k": "d", "n": None, "v": None, "w": 2}])
        )
    tables = {"dicts": others, "table": pa.Table.from_pylist(others)}

    def job(env):
        context = TSetContext(env)
        found = {}
        for name, table in itertools.product(ROW_FORMS, tables):
            left = ROW_FORMS[name](context, ROWS[:9]).union(context.parallelize(ROWS[9:]))
            found[name, table] = shown(left.join(context.parallelize(tables[table]), how, on="k").collect())
        return found

    for worker in run_workers(2, job):
        assert all(found == expected for found in worker.values())


# -- pairs -----------------------------------------------------------------------------------------------------------

PAIRS = [(number % 4, number * 10) for number in range(14)]


def of_pairs(data):
    return numpy.array(data, [("key", int), ("value", int)])


PAIR_FORMS = {
    "tuples": lambda context, data: context.parallelize(data, 2),
    "array": lambda context, data: context.parallelize(numpy.array(data)),
    "fields": lambda context, data: context.parallelize(of_pairs(data), 2),
    "table": lambda context, data: context.parallelize(
        pa.table({"key": of_pairs(data)["key"], "value": of_pairs(data)["value"]})
    ),
    "mapped": lambda context, data: context.parallelize(of_pairs(data)).map_values(int),
}
PAIR_STEPS = {
    "gather": lambda pairs: pairs.keyed_gather(),
    "in order": lambda pairs: pairs.keyed_gather(order=True, ordered=True),
    "ungrouped": lambda pairs: pairs.keyed_gather(grouped=False),
    "reduce": lambda pairs: pairs.keyed_reduce("sum"),
    "reduce by function": lambda pairs: pairs.keyed_reduce(max),
    "aggregate": lambda pairs: pairs.keyed_aggregate(0, lambda a, b: a + b, lambda a, b: a + b),
    "group": lambda pairs: pairs.group_by_key().mean(),
    "groups": lambda pairs: pairs.group_by_key().map_groups(lambda key, values: (key, len(values))),
    "partition": lambda pairs: pairs.keyed_partition().keyed_gather(),
    "values": lambda pairs: pairs.map_values(lambda value: -value).keys(),
    "count": lambda pairs: pairs.count_by_value(),
}
JOINS = {
    **{how: (lambda left, right, how=how: left.join(right, how)) for how in ("inner", "left", "right", "full")},
    "sort": lambda left, right: left.join(right, algorithm="sort"),
    "union": lambda left, right: left.union(right).join(right),
    "co_group": lambda left, right: left.co_group(right),
    "again": lambda left, right: left.keyed_gather(grouped=False).join(right.keyed_gather(grouped=False)),
}


@pytest.mark.parametrize("step", PAIR_STEPS)
def test_pairs(step):
    compare(PAIR_FORMS, PAIRS, PAIR_STEPS[step])


@pytest.mark.parametrize("how", ["inner", "left", "right", "full"])
def test_columns_joined_with_nothing(how):
    def job(env):
        context = TSetContext(env)
        nothing = context.parallelize([])
        return [shown(form(context, PAIRS).join(nothing, how).collect()) for form in PAIR_FORMS.values()]

    expected = shown(PlainSet(PAIRS).join(PlainSet([]), how).collect())
    assert run_workers(2, job) == [[expected] * len(PAIR_FORMS)] * 2


def not_both_tables(forms):
    """Tables that are joined with each other give rows."""
    return {name: form for name, form in forms.items() if name != "table"}


@pytest.mark.parametrize("step", JOINS)
def test_joins(step):
    compare(not_both_tables(PAIR_FORMS), PAIRS, JOINS[step], both=True)


@pytest.mark.parametrize("how", ["inner", "left", "right", "full"])
@pytest.mark.parametrize("other", sorted(set(PAIR_FORMS) - {"table"}))
def test_a_table_joined_with_pairs(how, other):
    some = [(3, 1), (9, 2)]  # some targets have rows of the table only

    def job(env):
        context = TSetContext(env)
        table, pairs = PAIR_FORMS["table"](context, PAIRS), PAIR_FORMS[other](context, some)
        return shown(table.join(pairs, how, broadcast="no").collect())

    for n in (1, 3):
        assert run_workers(n, job) == [shown(PlainSet(PAIRS).join(PlainSet(some), how).collect())] * n


# -- values ----------------------------------------------------------------------------------------------------------

NUMBERS = [number % 7 - 2.5 for number in range(20)]
NUMBER_FORMS = {
    "list": lambda context, data: context.parallelize(data, 3),
    "array": lambda context, data: context.parallelize(numpy.array(data), 2),
    "batches": lambda context, data: context.parallelize(data).map_batches(numpy.positive, form="numpy"),
    "of batches": lambda context, data: context.parallelize(data).map_batches(numpy.array),
}
NUMBER_STEPS = {
    "distinct": lambda numbers: numbers.distinct(),
    "count_by_value": lambda numbers: numbers.count_by_value(),
    "group": lambda numbers: numbers.group_by(lambda x: x > 0).sum(),
    "cross": lambda numbers: numbers.cross(numbers.distinct()),
    "partition": lambda numbers: numbers.partition(partitions=3),
    "top": lambda numbers: numbers.top(4)[3],
    "extremes": lambda numbers: (numbers.min(), numbers.max(), numbers.sum(), numbers.reduce("prod")),
}


@pytest.mark.parametrize("step", NUMBER_STEPS)
def test_numbers(step):
    compare(NUMBER_FORMS, NUMBERS, NUMBER_STEPS[step])


def test_sorted_numbers():
    compare(NUMBER_FORMS, NUMBERS, lambda numbers: numbers.sort(), ordered=True)
    compare(NUMBER_FORMS, NUMBERS, lambda numbers: numbers.sort(descending=True, partitions=2), ordered=True)


def test_arrays_of_different_numbers():
    def job(env):
        context = TSetContext(env)
        whole, parts = context.parallelize(numpy.arange(4, dtype="i4")), context.parallelize(numpy.array([2.5, 1.0]))
        both = whole.union(parts)
        return both.sort().collect(), sorted(both.distinct().collect())

    assert run_workers(2, job) == [([0, 1, 1, 2, 2.5, 3], [0, 1, 2, 2.5, 3])] * 2


@pytest.mark.parametrize(("one", "other"), [(pa.string(), pa.large_string()), (pa.binary(), pa.large_binary())])
def test_text_of_short_and_large_columns(one, other):
    words = [f"word {number % 5}".encode() for number in range(12)]
    words = words if one == pa.binary() else [word.decode() for word in words]
    rows = [{"k": word, "n": number} for number, word in enumerate(words)]
    steps = [
        lambda rows: rows.sort("k", "n"),
        lambda rows: rows.distinct(),
        lambda rows: rows.group_by("k").sum("n"),
        lambda rows: rows.keyed_gather(grouped=False).map(lambda row: tuple(row.values())),
        lambda rows: rows.join(rows.distinct("k").select("k"), on="k"),
    ]

    def job(env):
        context = TSetContext(env)
        tables = [pa.table({"k": pa.array(words, kind), "n": range(12)}) for kind in (one, other)]
        return [
            shown(step(context.parallelize(tables[0]).union(context.parallelize(tables[1]))).collect())
            for step in steps
        ]

    plain_rows = PlainSet(rows * 2)
    expected = [
        plain_rows.sort("k", "n"),
        plain_rows.distinct(),
        plain_rows.group_by("k").sum("n"),
        plain_rows.map(lambda row: tuple(row.values())),
        plain_rows,
    ]
    assert run_workers(3, job) == [[shown(one.collect()) for one in expected]] * 3


def test_zipped_numbers():
    compare(NUMBER_FORMS, NUMBERS, lambda left, right: left.zip(right), ordered=True, both=True)


KEYS = {
    "whole": ([1, 2, 1 << 40, -3, 0], pa.int64()),
    "float": ([1.0, 0.5, -0.0, float("nan"), 2.0], pa.float64()),
    "small float": ([1.0, 0.5, -2.0], pa.float32()),
    "byte": ([1, 2, 3], pa.uint8()),
    "text": (["", "a", "é", "a longer text"], pa.string()),
    "bytes": ([b"", b"a", b"\x00"], pa.binary()),
    "truth": ([True, False], pa.bool_()),
    "missing": ([None, 1, None, 2], pa.int64()),
    "nothing": ([None, None], pa.null()),
    "date": ([datetime.date(2020, 1, 1), datetime.date(1960, 2, 3), None], pa.date32()),
    "time": ([datetime.datetime(2020, 1, 1, 12, 0, 0, 5), datetime.datetime(1, 1, 1)], pa.timestamp("us")),
    "span": ([datetime.timedelta(1, 2, 3), datetime.timedelta(0)], pa.duration("us")),
}


@pytest.mark.parametrize("kind", KEYS)
def test_keys_of_all_kinds(kind):
    keys, column = KEYS[kind]
    rows = [{"k": key, "n": number} for number, key in enumerate(keys * 3)]
    table = pa.table({"k": pa.array([row["k"] for row in rows], column), "n": [row["n"] for row in rows]})
    steps = {
        "sum": lambda rows: rows.group_by("k").sum("n"),
        "two": lambda rows: rows.group_by("k", "n").count(),
        "distinct": lambda rows: rows.distinct("k").map(lambda row: row["k"]),
        "all": lambda rows: rows.distinct(),
        "sort": lambda rows: rows.sort("k", "n"),
        "reduce": lambda rows: rows.keyed_reduce("sum"),
        "gather": lambda rows: rows.keyed_gather(),
        "lying": lambda rows: rows.keyed_partition().keyed_gather(),
        "join": lambda rows: rows.join(rows).keyed_reduce(lambda one, other: one),
    }

    def job(env):
        context = TSetContext(env)
        pairs = [tuple(row.values()) for row in rows]
        found = {}
        for name, step in steps.items():
            records = pairs if name in ("reduce", "gather", "lying", "join") else rows
            lists = context.parallelize(records * 2, 3)
            mixed = context.parallelize(table).union(context.parallelize(records, 2))
            found[name] = [shown([*map(plain, step(one).collect())]) for one in (lists, mixed)]
            if name == "join":
                found[name] = [sorted(repr(plain(key)) for key, _ in step(one).collect()) for one in (lists, mixed)]
        return found

    for worker in run_workers(3, job):
        for name, (expected, found) in worker.items():
            assert found == expected, name


# -- what the plan says, and what cannot be ----------------------------------------------------------------------------


def plan(make):
    return run_workers(1, lambda env: make(TSetContext(env)).explain())[0]


def test_only_what_differs_becomes_records():
    def of(one, other):
        return plan(lambda context: ROW_FORMS[one](context, ROWS).union(ROW_FORMS[other](context, ROWS)).sort("v"))

    assert "as records: rows of columns" in of("dicts", "table")
    for alike in (("dicts", "filtered"), ("table", "table"), ("array", "chosen"), ("batches", "batches")):
        assert "as records" not in of(*alike), alike
    assert "as records" not in plan(lambda context: ROW_FORMS["batches"](context, ROWS).sort("v"))
    assert "as records" not in plan(
        lambda context: context.parallelize([]).union(ROW_FORMS["table"](context, ROWS)).sort("v")
    )


@pytest.mark.parametrize("without", [(), *[(rule,) for rule in RULES], tuple(RULES)], ids="+".join)
def test_answers_are_the_same_without_rules(tmp_path, without):
    """Columns of a file that is read twice, left out where nobody looks at them; pairs that lie by key already."""
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "rows.parquet")

    def job(env):
        context = TSetContext(env, without_rules=without)
        file, lists = context.read_parquet(tmp_path / "rows.parquet"), context.parallelize(ROWS, 2)
        some = file.where("n", ">", 2).union(file.filter(lambda row: row["n"] < 2), lists.where("n", "==", 2))
        pairs = PAIR_FORMS["table"](context, PAIRS).union(context.parallelize(PAIRS[:5])).keyed_partition(partitions=2)
        found = [
            some.group_by("k").sum("n"),
            some.distinct("n").select("n"),
            some.join(lists.distinct("k").select("k"), on="k").group_by("k").count(),
            pairs.keyed_gather(),
            pairs.join(context.parallelize(PAIRS[:3]), partitions=2),
        ]
        return [shown(one.collect()) for one in found]

    sums = PlainSet(ROWS).group_by("k")
    pairs = PlainSet([*PAIRS, *PAIRS[:5]])
    expected = [
        sums.sum("n"),
        PlainSet({"n": n} for n in range(5)),
        sums.count(),
        pairs.keyed_gather(),
        pairs.join(PlainSet(PAIRS[:3])),
    ]
    assert run_workers(2, job) == [[shown(one.collect()) for one in expected]] * 2


def test_a_function_that_gives_now_one_form_and_now_another():
    def job(env):
        numbers = TSetContext(env).parallelize([*range(0, 9, 2), *range(1, 10, 2)], 2)
        return numbers.map_batches(lambda some: numpy.array(some) if 0 in some else list(some)).sort().collect()

    with pytest.raises(OperatorError, match=r"sort .*lists") as caught:
        run_workers(1, job)
    assert ".map(float)" in caught.value.remedy


def test_other_columns():
    def both(env):
        context = TSetContext(env)
        return context.parallelize(pa.table({"k": [1], "v": [2]})).union(context.parallelize(pa.table({"k": [1]})))

    with pytest.raises(OperatorError, match="k: int64, v: int64") as caught:
        run_workers(1, lambda env: both(env).sort("k").collect())
    assert "select(...) the same columns" in caught.value.remedy
    with pytest.raises(OperatorError, match=r"no column 'v'"):
        run_workers(1, lambda env: both(env).group_by("k").sum("v").collect())
    found = run_workers(2, lambda env: both(env).select("k").distinct("k").collect())
    assert found == [[{"k": 1}]] * 2


@pytest.mark.parametrize("result", [("v", "count_distinct"), ("v", "list"), (lambda row: row["v"], "sum"), "list"])
def test_results_that_hold_records_come_as_records(result):
    table = pa.table({"k": [1, 2, 1, 3], "v": [1, 1, 5, 6]})

    def job(env):
        rows = TSetContext(env).parallelize(table, 2)
        found = rows.group_by("k").agg(r=result)
        return found.union(rows.select("k")).distinct("k").count(), found.join(rows, "semi", on="k").sort("k").count()

    assert run_workers(2, job) == [(3, 3)] * 2


def test_an_updated_set():
    def job(env):
        context = TSetContext(env)
        kept = context.parallelize(numpy.arange(6)).cache()
        more = context.parallelize(numpy.arange(3))
        before = kept.union(more).sort().collect()
        context.run_and_update(kept.map(lambda number: number + 1), into=kept)
        return before, kept.union(more).sort().collect()

    assert run_workers(2, job) == [([0, 0, 1, 1, 2, 2, 3, 4, 5], [0, 1, 1, 2, 2, 3, 4, 5, 6])] * 2


def test_mixed_rows_that_do_not_fit_into_memory():
    rows = [{"k": number % 1500, "text": f"{number:04} " * 80} for number in range(6000)]
    table = pa.Table.from_pylist(rows)

    def job(env):
        context = TSetContext(env)
        both = context.parallelize(table).union(context.parallelize(rows))
        first = [row["text"][:4] for row in both.sort("text").take(3)]
        groups = both.group_by("k").count().filter(lambda pair: pair[1] != 8).count()
        found = both.distinct().count(), first, groups
        return found, env.memory.use().spilled > 0

    for found, spilled in run_workers(2, job, memory_bytes=3 << 20):
        assert found == (6000, ["0000", "0000", "0001"], 0)
        assert spilled
