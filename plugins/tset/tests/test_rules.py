"""Rewriting rules on sets: the same answers, less work."""

from __future__ import annotations

import itertools

import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest

from twister2.graph.rewrite import RULES
from twister2.spec.errors import Twister2Error
from twister2_testkit.graphs import run_workers
from twister2_tset import TSetContext

pytestmark = pytest.mark.timeout(120)

FOUND = ("share", "columns", "colocate", "fuse")
"""The rules that find something to do in this program."""
SUBSETS = [some for n in range(len(FOUND) + 1) for some in itertools.combinations(FOUND, n)]
TABLE = pa.table({"k": [x % 5 for x in range(200)], "v": list(range(200)), "text": [f"row {x}" for x in range(200)]})

WRITERS = {
    "csv": pyarrow.csv.write_csv,
    "parquet": pyarrow.parquet.write_table,
    "arrow": lambda table, path: pyarrow.feather.write_feather(table, path, compression="uncompressed"),
}


@pytest.fixture(params=WRITERS)
def files(request, tmp_path):
    for number in range(3):
        WRITERS[request.param](TABLE.slice(number * 60, 80), tmp_path / f"part{number}.{request.param}")
    return request.param, f"{tmp_path}/*.{request.param}"


def program(form, path, without=()):
    """Sums by key of one reading, joined with the smallest of another of the same files."""

    def main(env):
        context = TSetContext(env, partitions=3, without_rules=without)
        read = getattr(context, f"read_{form}")
        sums = read(path).select("k", "v").map(lambda row: (row["k"], row["v"])).keyed_reduce(lambda a, b: a + b)
        least = read(path).select("v", "k").map(lambda row: (row["k"], row["v"])).keyed_reduce(min)
        both = sums.join(least)
        return sorted(both.collect()), both.explain()

    return main


def expected():
    rows = [row for number in range(3) for row in TABLE.slice(number * 60, 80).to_pylist()]
    values = {key: [row["v"] for row in rows if row["k"] == key] for key in range(5)}
    return sorted((key, (sum(each), min(each))) for key, each in values.items())


@pytest.mark.parametrize("without", SUBSETS, ids=lambda without: "+".join(without) or "all")
def test_answers_are_the_same_with_every_subset(tmp_path, without):
    for number in range(3):
        pyarrow.parquet.write_table(TABLE.slice(number * 60, 80), tmp_path / f"part{number}.parquet")
    results = run_workers(2, program("parquet", f"{tmp_path}/*.parquet", without))
    assert [answer for answer, _ in results] == [expected()] * 2
    assert results[0][1] == results[1][1], "workers plan differently"
    for rule in RULES:
        assert (f"  {rule}: " in results[0][1]) == (rule in FOUND and rule not in without), rule


def test_columns_that_nobody_looks_at_are_not_read(files):
    form, path = files
    ((answer, text),) = run_workers(1, program(form, path))
    assert answer == expected()
    assert "reads k, v only" in text
    assert f"share: read_{form}" in text


def test_groups_read_what_they_are_made_of(files):
    form, path = files

    def main(env, without):
        context = TSetContext(env, without_rules=without)
        read = getattr(context, f"read_{form}")(path)
        if form == "parquet":
            read = read.where("v", ">=", 0)
        groups = read.group_by("k").agg(total=("v", "sum"), rows="count")
        return groups.sort("k").collect(), groups.explain()

    rows = [row for number in range(3) for row in TABLE.slice(number * 60, 80).to_pylist()]
    wanted = []
    for key in range(5):
        values = [row["v"] for row in rows if row["k"] == key]
        wanted.append({"k": key, "total": sum(values), "rows": len(values)})
    for without in ((), ("columns",)):
        for found, text in run_workers(2, lambda env, without=without: main(env, without)):
            assert found == wanted
            assert ("reads k, v only" in text) == (not without)


def test_what_was_asked_for_differently_is_read_twice(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n")

    def main(env):
        context = TSetContext(env)
        one, other = context.read_text(f"{tmp_path}/a.txt"), context.read_text([f"{tmp_path}/a.txt"], partitions=1)
        return one.union(other).explain()

    assert "share:" not in run_workers(2, main)[0]


@pytest.mark.parametrize(
    "step",
    [lambda read: read.select("k", "nowhere"), lambda read: read.group_by("nowhere").agg(sum=("v", "sum"))],
    ids=["select", "aggregate"],
)
def test_a_column_that_is_not_there_is_named_all_the_same(files, step):
    form, path = files

    def main(env, without):
        step(getattr(TSetContext(env, without_rules=without), f"read_{form}")(path)).collect()

    with pytest.raises(Twister2Error, match="nowhere"):
        run_workers(2, lambda env: main(env, ("columns",)))
    with pytest.raises(Twister2Error, match="has no column 'nowhere'") as caught:
        run_workers(2, lambda env: main(env, ()))
    assert "its columns are ['k', 'v', 'text']" in str(caught.value)


def test_a_column_that_no_line_of_json_has(tmp_path):
    (tmp_path / "a.json").write_text('{"v": 1}\n{"v": 2}\n')
    with pytest.raises(Twister2Error, match="has no column 'k'"):
        run_workers(2, lambda env: TSetContext(env).read_json(str(tmp_path)).group_by("k").agg(n="count").collect())


def test_columns_given_to_the_reader_are_those_there_are(files):
    form, path = files

    def main(env):
        return getattr(TSetContext(env), f"read_{form}")(path, columns=["k", "v"]).select("v").collect()

    rows = run_workers(1, main)[0]
    assert sorted(row["v"] for row in rows) == sorted(
        row["v"] for number in range(3) for row in TABLE.slice(number * 60, 80).to_pylist()
    )
    assert all(set(row) == {"v"} for row in rows)


def test_passwords_are_not_shown(tmp_path):
    def main(env):
        context = TSetContext(env)
        uri = "https://user:secret@nowhere.invalid/a.txt"
        return context.read_text(uri).union(context.read_text(uri)).explain()

    (text,) = run_workers(1, main)
    assert "share:" in text
    assert "secret" not in text
