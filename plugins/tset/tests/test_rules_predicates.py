"""Rule predicates on files: ``where`` behind a reader is done by the reader."""

from __future__ import annotations

import json
import math
import operator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twister2.graph.rewrite import RULES
from twister2.spec.errors import Twister2Error
from twister2_testkit.graphs import EXECUTORS, run_workers
from twister2_tset import TSetContext

pytestmark = pytest.mark.timeout(300)

SUBSETS = st.sets(st.sampled_from(sorted(RULES)))


def write_json(table, path):
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))


WRITERS = {
    "csv": pa.csv.write_csv,
    "parquet": lambda table, path: pa.parquet.write_table(table, path, row_group_size=5),
    "arrow": lambda table, path: pa.feather.write_feather(table, path, compression="uncompressed", chunksize=5),
    "json": write_json,
}
RELATIONS = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda value, wanted: value == value and value in wanted,
}


def fits(row, name, relation, value):
    return row[name] is not None and RELATIONS[relation](row[name], value)


def in_any_order(rows):
    return sorted(repr(sorted(row.items())) for row in rows)


VALUES = {
    "n": st.one_of(st.none(), st.integers(-3, 9)),
    "x": st.one_of(st.none(), st.sampled_from([0.5, -1.5, 2.5, math.inf])),
    "s": st.sampled_from(["a", "b", "ab", "z"]),
}
ROWS = st.lists(st.fixed_dictionaries(VALUES), min_size=1, max_size=40)
CASES = st.one_of(
    *(
        st.tuples(
            st.just(name), st.sampled_from(sorted(set(RELATIONS) - {"in"})), values.filter(lambda v: v is not None)
        )
        for name, values in VALUES.items()
    ),
    *(st.tuples(st.just(name), st.just("in"), st.lists(values, max_size=3)) for name, values in VALUES.items()),
)
SCHEMA = pa.schema([("n", pa.int64()), ("x", pa.float64()), ("s", pa.string())])


@settings(max_examples=20, deadline=None, database=None)
@given(
    rows=ROWS,
    form=st.sampled_from(["csv", "parquet", "arrow"]),
    wheres=st.lists(CASES, min_size=1, max_size=3),
    select=st.sampled_from(["no", "before", "between", "behind"]),
    n_workers=st.integers(1, 3),
    partitions=st.integers(1, 4),
    executor=st.sampled_from(EXECUTORS),
    without=SUBSETS,
)
def test_answers_are_the_same_with_every_subset(rows, form, wheres, select, n_workers, partitions, executor, without):
    if form == "csv":  # a column without any value, or with infinity, is of another type there
        rows = [
            *({**row, "x": 0.5 if row["x"] == math.inf else row["x"]} for row in rows),
            {"n": 1, "x": 0.25, "s": "a"},
        ]
    expected = [row for row in rows if all(fits(row, *where) for where in wheres)]
    chosen = tuple(dict.fromkeys(["x", *(name for name, _, _ in wheres)]))
    if select != "no":
        names = ("x",) if select == "behind" else chosen
        expected = [{name: row[name] for name in names} for row in expected]
    with TemporaryDirectory() as folder:
        path = f"{folder}/rows.{form}"
        WRITERS[form](pa.Table.from_pylist(rows, SCHEMA), path)

        def main(env, left_out):
            context = TSetContext(env, without_rules=left_out)
            found = getattr(context, f"read_{form}")(path, partitions=partitions)
            for number, where in enumerate(wheres):
                if select == ("between" if number else "before"):
                    found = found.select(*chosen)
                found = found.where(*where)
            if select == "behind" or (select == "between" and len(wheres) == 1):
                found = found.select(*(("x",) if select == "behind" else chosen))
            return found.collect(), found.count()

        for left_out in ((), without, tuple(RULES)):
            results = run_workers(n_workers, lambda env, left_out=left_out: main(env, left_out), executor=executor)
            for found, count in results:
                assert in_any_order(found) == in_any_order(expected), left_out
                assert count == len(expected)


MIXED = {
    "small": (pa.int8(), [0, 1, 2, None]),
    "large": (pa.int64(), [2**53, 2**53 + 1, -1, None]),
    "unsigned": (pa.uint64(), [0, 2**63, 2**64 - 1, None]),
    "single": (pa.float32(), [0.5, 1.0, 0.1, None]),
    "double": (pa.float64(), [0.1, 1.0, 2.0**53, math.nan, None]),
    "flag": (pa.bool_(), [True, False, None]),
    "amount": (pa.decimal128(6, 2), [Decimal("0.10"), Decimal("1.00"), None]),
}
NUMBERS = [0, 1, 300, 2**53, 2**53 + 1, 2**63, 2**70, True, 0.1, 0.5, 1.0, 1.9, 2.0**53, 2.0**63, math.inf]
NUMBERS += [Decimal("0.1"), Decimal(1), Decimal("0.105")]
TIMES = [date(2020, 1, 1), datetime(2020, 1, 1), datetime(2020, 1, 1, 12)]
MIXED_CASES = st.one_of(
    st.tuples(
        st.sampled_from(sorted(MIXED)), st.sampled_from(sorted(set(RELATIONS) - {"in"})), st.sampled_from(NUMBERS)
    ),
    st.tuples(st.sampled_from(sorted(MIXED)), st.just("in"), st.lists(st.sampled_from([*NUMBERS, None]), max_size=3)),
    st.tuples(st.sampled_from(["day", "time"]), st.sampled_from(["==", "!="]), st.sampled_from(TIMES)),
    st.tuples(st.sampled_from(["day", "time"]), st.just("in"), st.lists(st.sampled_from(TIMES), max_size=3)),
)
MIXED_TIMES = {
    "day": (pa.date32(), [date(2020, 1, 1), date(2020, 1, 2), None]),
    "time": (pa.timestamp("us"), [datetime(2020, 1, 1), datetime(2020, 1, 1, 12), None]),
}


@settings(max_examples=6, deadline=None, database=None)
@given(cases=st.lists(MIXED_CASES, min_size=1, max_size=5), seed=st.randoms())
def test_values_of_other_types_in_every_form(cases, seed):
    columns = {**MIXED, **MIXED_TIMES}
    rows = [{name: seed.choice(values) for name, (_, values) in columns.items()} for _ in range(30)]
    table = pa.Table.from_pylist(rows, pa.schema([(name, kind) for name, (kind, _) in columns.items()]))
    rows = [dict(row, number=at) for at, row in enumerate(table.to_pylist())]
    table = table.append_column("number", pa.array(range(30)))

    def main(env, path, name, relation, value):
        forms = [TSetContext(env).parallelize(table), TSetContext(env).read_parquet(path)]
        forms += [TSetContext(env, without_rules=["predicates"]).read_parquet(path)]
        asked = TSetContext(env).read_parquet(path, predicate=[(name, relation, value)])
        found = [asked, *(one.where(name, relation, value) for one in [TSetContext(env).parallelize(rows), *forms])]
        return [sorted(one.map(lambda row: row["number"]).collect()) for one in found]

    with TemporaryDirectory() as folder:
        pa.parquet.write_table(table, f"{folder}/a.parquet", row_group_size=5)
        for name, relation, value in cases:
            try:
                expected = [row["number"] for row in rows if fits(row, name, relation, value)]
            except ArithmeticError:  # NaN and a Decimal
                continue
            (found,) = run_workers(1, lambda env, case=(name, relation, value): main(env, folder, *case))
            assert found == [expected] * 5, (name, relation, value)


@settings(max_examples=25, deadline=None, database=None)
@given(
    name=st.sampled_from(["small", "large", "unsigned", "half", "single", "double"]),
    relation=st.sampled_from(sorted(set(RELATIONS) - {"in"})),
    value=st.sampled_from([one for one in NUMBERS if not isinstance(one, Decimal)]),
)
def test_values_of_other_types_on_arrays(name, relation, value):
    columns = {
        "small": numpy.array([0, 1, 127, -1], "int8"),
        "large": numpy.array([2**53, 2**53 + 1, 2**63 - 1, 1]),
        "unsigned": numpy.array([0, 2**63, 2**64 - 1, 2**53 + 1], "uint64"),
        "half": numpy.array([0.1, 0.5, 1, math.inf], "float16"),
        "single": numpy.array([0.1, 0.5, 2**53, math.nan], "float32"),
        "double": numpy.array([0.1, 2**53, 2**63, math.nan]),
    }
    array = numpy.zeros(4, [(key, column.dtype) for key, column in columns.items()])
    for key, column in columns.items():
        array[key] = column
    expected = [RELATIONS[relation](here, value) for here in columns[name].tolist()].count(True)
    count = run_workers(1, lambda env: TSetContext(env).parallelize(array).where(name, relation, value).count())
    assert count == [expected]


def test_a_date_and_a_time_have_no_order():
    days = pa.table({"day": [date(2020, 1, 1)]})
    with pytest.raises(Twister2Error, match="compare it with a value of its type"):
        run_workers(1, lambda env: TSetContext(env).parallelize(days).where("day", "<", datetime(2020, 1, 2)).collect())


TABLE = pa.table({"k": list(range(100)), "v": [k % 5 for k in range(100)], "text": [f"row {k}" for k in range(100)]})


@pytest.fixture(params=WRITERS)
def files(request, tmp_path):
    for number in range(2):
        WRITERS[request.param](TABLE.slice(number * 50, 50), tmp_path / f"part{number}.{request.param}")
    return request.param, f"{tmp_path}/*.{request.param}"


def read(context, files, **options):
    form, path = files
    return getattr(context, f"read_{form}")(path, **options)


@pytest.mark.parametrize("without", [(), ("predicates",)])
def test_less_is_read(files, without):
    def main(env):
        context = TSetContext(env, without_rules=without)
        chosen = read(context, files).where("k", ">=", 40).where("v", "==", 2).select("text")
        return chosen.collect(), context.read_report().records, chosen.explain()

    for found, records, text in run_workers(2, main):
        assert sorted(row["text"] for row in found) == sorted(f"row {k}" for k in range(40, 100) if k % 5 == 2)
        assert records == (100 if without else 12)
        assert ("gives only rows with k >= 40 and v == 2" in text) == (not without)
        assert without or "reads text only" in text


def test_comparisons_behind_a_selection_are_done_by_the_reader_too(files):
    def main(env):
        chosen = read(TSetContext(env), files).where("k", ">=", 40).select("text", "v").where("v", "==", 2)
        missing = read(TSetContext(env), files).select("text").where("v", "==", 2)
        gone = read(TSetContext(env), files).select("text").select("v").where("v", "==", 2)
        return chosen.collect(), chosen.explain(), missing.explain() + gone.explain()

    for found, text, missing in run_workers(2, main):
        wanted = [{"text": f"row {k}", "v": 2} for k in range(40, 100) if k % 5 == 2]
        assert sorted(found, key=wanted.index) == wanted
        assert "gives only rows with k >= 40 and v == 2" in text
        assert "reads v, text only" in text
        assert "predicates:" not in missing, "that there is no such column, the step says"


def test_pieces_of_parquet_files_that_hold_nothing_wanted_are_left_out(tmp_path):
    path = tmp_path / "ascending.parquet"
    pa.parquet.write_table(TABLE, path, row_group_size=10)

    def main(env, without):
        context = TSetContext(env, without_rules=without)
        rows = context.read_parquet(str(path)).where("k", "in", [7, 93])
        found = sorted(row["k"] for row in rows.collect())
        return found, sum(one.get("bytes_read", 0) for one in env.runner.figures.totals().values())

    few, all_ = (
        run_workers(1, lambda env, without=without: main(env, without))[0] for without in ((), ("predicates",))
    )
    assert few[0] == all_[0] == [7, 93]
    assert few[1] < all_[1] / 4


def test_what_was_asked_of_the_reader_still_holds(files):
    def main(env):
        context = TSetContext(env)
        chosen = read(context, files, predicate=[("k", "<", 50)], columns=["k", "v"]).where("v", "==", 1)
        return chosen.collect(), chosen.explain()

    found, text = run_workers(2, main)[0]
    assert sorted(found, key=lambda row: row["k"]) == [{"k": k, "v": 1} for k in range(50) if k % 5 == 1]
    assert "predicates:" in text


@pytest.mark.parametrize("without", [(), ("predicates",), tuple(RULES)])
@pytest.mark.parametrize(
    ("options", "where", "named"),
    [
        ({}, ("nowhere", "==", 1), "nowhere"),
        ({"columns": ["k"]}, ("v", "==", 1), "v"),
        ({}, ("text", "<", 5), "text"),
        ({}, ("k", "==", "five"), "k"),
    ],
)
def test_what_cannot_be_done_is_an_error_either_way(files, without, options, where, named):
    def main(env):
        return read(TSetContext(env, without_rules=without), files, **options).where(*where).collect()

    with pytest.raises(Twister2Error, match=rf"'{named}'"):
        run_workers(2, main)


@pytest.mark.parametrize(
    "where",
    [("k", "==", 2**60), ("k", "<", 1e300), ("k", "in", range(5)), ("k", "==", math.nan), ("k", "in", {1, 2**70})],
    ids=str,
)
def test_values_that_may_be_compared_otherwise_stay_with_the_step(tmp_path, where):
    pa.parquet.write_table(TABLE, tmp_path / "a.parquet")
    text = run_workers(1, lambda env: TSetContext(env).read_parquet(str(tmp_path)).where(*where).explain())[0]
    assert "predicates:" not in text


def test_a_set_that_several_steps_read_is_read_whole(files):
    def main(env):
        table = read(TSetContext(env), files)
        both = table.where("v", "==", 1).union(table.where("v", "==", 2))
        return both.count(), both.explain()

    count, text = run_workers(2, main)[0]
    assert count == 40
    assert "predicates:" not in text


def test_objects_have_no_columns(tmp_path):
    (tmp_path / "a.json").write_text('{"k": 1}\n{"k": 2}\n[3]\n')

    def main(env):
        rows = TSetContext(env).read_json(str(tmp_path / "a.json"), form="objects").filter(lambda row: "k" in row)
        chosen = rows.where("k", ">", 1)
        return chosen.collect(), chosen.explain()

    found, text = run_workers(1, main)[0]
    assert found == [{"k": 2}]
    assert "predicates:" not in text
