"""What is done with Arrow tables is done with columns: their rows do not become Python objects on the way."""

from __future__ import annotations

import sys

import pyarrow as pa
import pytest

from twister2.spec import batch as batches
from twister2_testkit.graphs import run_workers
from twister2_tset import TSetContext

pytestmark = pytest.mark.timeout(120)
ROWS, KEYS = 20_000, 50
TABLE = pa.table({"k": [n % KEYS for n in range(ROWS)], "v": range(ROWS), "w": [n / 4 for n in range(ROWS)]})
SMALL = pa.table({"k": range(0, 2 * KEYS, 2), "name": [f"name{n}" for n in range(KEYS)]})
ALL = ("sum", "min", "max", "count", "mean", "variance", "std")

STEPS = {
    "sum of groups": lambda s, o: s.group_by("k").sum("v").count(),
    "all of groups": lambda s, o: s.group_by("k").agg(**{name: ("w", name) for name in ALL}).collect(form="arrow"),
    "keyed_reduce": lambda s, o: s.select("k", "v").keyed_reduce("sum").count(),
    "join": lambda s, o: s.join(o, on="k", broadcast="no").collect(form="arrow"),
    "join of a small side": lambda s, o: s.join(o, on="k", broadcast="right").count(),
    "join in order": lambda s, o: s.join(o, "full", on="k", algorithm="sort").collect(form="arrow"),
    "semi join": lambda s, o: s.join(o, "semi", on="k").count(),
    "anti join": lambda s, o: s.join(o, "anti", on="k").collect(form="arrow"),
    "sort": lambda s, o: s.sort("k", "v", descending=[True, False]).collect(form="arrow"),
    "distinct": lambda s, o: s.distinct("k").collect(form="arrow"),
    "partition": lambda s, o: s.partition(key="k", partitions=3).count(),
    "round_robin": lambda s, o: s.partition("round_robin", partitions=3).collect(form="arrow"),
    "where": lambda s, o: s.where("v", "<", 9000).where("k", "in", [1, 2]).select("w").collect(form="arrow"),
    "union": lambda s, o: s.union(s).cache().count(),
    "moments": lambda s, o: (s.sum("v"), s.mean("w"), s.std("v")),
}


@pytest.fixture
def made(monkeypatch):
    """Numbers of rows whose Python objects were asked for, from when it is called on."""

    def watch():
        found = []
        original = batches.python_values

        def python_values(columns):
            found.append(len(columns))
            return original(columns)

        for module in list(sys.modules.values()):
            if getattr(module, "python_values", None) is original:
                monkeypatch.setattr(module, "python_values", python_values)
        return found

    return watch


def asked(step):
    def main(env):
        context = TSetContext(env)
        return step(context.parallelize(TABLE, 4), context.parallelize(SMALL, 2))

    return run_workers(2, main)


@pytest.mark.parametrize("name", STEPS)
def test_no_step_goes_record_by_record(name, made):
    asked(STEPS[name])  # imports all that it needs
    found = made()
    asked(STEPS[name])
    assert sum(found) <= 4 * KEYS, "only what is made of each key"


def test_a_function_of_records_would_be_seen(made):
    def step(s, o):
        return s.map(lambda row: (row["k"], row["v"])).keyed_reduce("sum").count()

    asked(step)
    found = made()
    asked(step)
    assert sum(found) >= ROWS
