"""Rule columns on sets: whatever lies between a source and who looks at its columns, the others are not read."""

from __future__ import annotations

import random

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twister2.spec.errors import OperatorError
from twister2_testkit.graphs import run_workers
from twister2_tset import TSetContext

pytestmark = pytest.mark.timeout(300)

ROWS = 60
LEFT = pa.table(
    {
        "k": [n * 7 % 11 for n in range(ROWS)],
        "v": [n % 4 for n in range(ROWS)],
        "v_right": [f"left {n % 3}" for n in range(ROWS)],
        "w": [None if n % 5 == 0 else n / 2 for n in range(ROWS)],
        "text": [f"row {n}" for n in range(ROWS)],
        "n": list(range(ROWS)),
    }
)
RIGHT = pa.table(
    {
        "k": list(range(2, 14)),
        "v": [n * 10 for n in range(12)],
        "v_right": [f"right {n}" for n in range(12)],
        "w": [n % 2 for n in range(12)],
        "long": ["much " * 9] * 12,
    }
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for name, table in (("left", LEFT), ("right", RIGHT)):
        pyarrow.parquet.write_table(table, folder / f"{name}.parquet")
    return folder


def suffixed(left, right):
    """Columns of a join by k, as the guide says it."""
    names = list(left)
    for name in right:
        new = name
        while name != "k" and new in names:
            new += "_right"
        names += [new] if name != "k" else []
    return names


class Chain:
    """Random steps behind a file; it knows the columns that there are."""

    def __init__(self, context, files, how):
        self.left, self.right = (context.read_parquet(str(files / f"{name}.parquet")) for name in ("left", "right"))
        self.table = context.parallelize(RIGHT)
        self.how = how
        self.set, self.names = self.left, list(LEFT.column_names)
        self.as_read = True

    def some(self, chance):
        """Columns, k among them for the steps behind."""
        return list(dict.fromkeys([*chance.sample(self.names, chance.randint(0, 3) % len(self.names)), "k"]))

    def step(self, name, seed):
        chance = random.Random(seed)
        getattr(self, f"add_{name}")(chance)

    def add_select(self, chance):
        self.names = self.some(chance)
        self.set = self.set.select(*self.names)

    def add_where(self, chance):
        self.set = self.set.where("k", ">", 1)

    def add_filter(self, chance):
        self.set = self.set.filter(lambda row: row["k"] != 3)

    def add_sample(self, chance):
        if self.as_read:  # else the order of records is not the same each time
            self.set = self.set.sample(0.9)

    def add_sort(self, chance):
        self.exchanged(self.set.sort(*self.some(chance)))

    def add_partition(self, chance):
        self.exchanged(self.set.partition(chance.choice(["hash", "range"]), key="k", partitions=3))

    def add_spread(self, chance):
        self.exchanged(self.set.partition("round_robin"))

    def add_distinct(self, chance):
        self.names = self.some(chance)  # which of the others is kept is a question of order
        self.exchanged(self.set.distinct(self.names).select(*self.names))

    def add_union(self, chance):
        self.exchanged(self.set.union(self.set.where("k", "<=", 5)))

    def add_cached(self, chance):
        self.exchanged(self.set.cache())

    def add_join(self, chance):
        other = chance.choice([self.right, self.table])
        self.exchanged(self.set.join(other, self.how, on="k"))
        self.names = suffixed(self.names, RIGHT.column_names)

    def add_groups(self, chance):
        self.exchanged(self.set.group_by("k").agg(n="count", most=(chance.choice(self.names), "max")))
        self.names = ["k", "n", "most"]

    def exchanged(self, found):
        self.set, self.as_read = found, False


STEPS = sorted(name.removeprefix("add_") for name in vars(Chain) if name.startswith("add_"))
ENDS = {
    "collect": lambda chain: chain.set.collect(),
    "count": lambda chain: chain.set.count(),
    "sum": lambda chain: chain.set.sum("k"),
    "count by": lambda chain: chain.set.group_by("k").count().collect(),
    "sum of selected": lambda chain: chain.set.select(*chain.names[::-1]).sum("k"),
    "count of selected": lambda chain: chain.set.select(*chain.names[1:], "k").count(),
    "one column": lambda chain: chain.set.select(chain.names[-1]).collect(),
    "least": lambda chain: chain.set.group_by("k").agg(least=(chain.names[-1], "min")).collect(),
}


def normal(answer):
    if isinstance(answer, list):
        return sorted(map(normal, answer), key=repr)
    return sorted(answer.items()) if isinstance(answer, dict) else answer


@settings(max_examples=30, deadline=None, database=None)
@given(
    steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 99)), max_size=5),
    how=st.sampled_from(["inner", "left", "right", "full"]),
    end=st.sampled_from(sorted(ENDS)),
    n_workers=st.integers(1, 3),
)
def test_answers_are_the_same_without_the_rule(files, steps, how, end, n_workers):
    def main(env, without):
        chain = Chain(TSetContext(env, without_rules=without), files, how)
        for name, seed in steps:
            chain.step(name, seed)
        return normal(ENDS[end](chain))

    plain, found = (run_workers(n_workers, lambda env, w=without: main(env, w)) for without in (("columns",), ()))
    assert found == plain


LESS = {
    "count": (lambda left, right: left.count(), ["k"], None),
    "sum": (lambda left, right: left.where("v", ">", 1).sum("n"), ["n", "v"], None),
    "select": (lambda left, right: left.select("n", "text", "w").sum("n"), ["n"], None),
    "selects": (
        lambda left, right: left.select("n", "v", "text", "w").where("v", ">", 1).select("text", "n").mean("n"),
        ["v", "n"],
        None,
    ),
    "select and count": (lambda left, right: left.select("text", "k").count(), ["k"], None),
    "select and join": (
        lambda left, right: left.select("k", "n", "text").join(right.select("w", "k"), on="k").sum("w"),
        ["k"],
        ["k", "w"],
    ),
    "mean": (lambda left, right: left.sample(0.5).mean("n"), ["n"], None),
    "sort": (lambda left, right: left.sort("k").select("n").collect(), ["k", "n"], None),
    "distinct": (lambda left, right: left.distinct("k").count(), ["k"], None),
    "partition": (lambda left, right: left.partition("hash", key="v").sum("n"), ["v", "n"], None),
    "spread": (lambda left, right: left.partition("round_robin").sum("n"), ["n"], None),
    "schema": (lambda left, right: left.with_schema({"n": "int32"}).collect(), ["n"], None),
    "join": (
        lambda left, right: left.join(right, on="k").group_by("v").agg(n=("n", "sum")).collect(),
        ["k", "v", "n"],
        ["k", "v"],  # without v nobody could tell whose it is
    ),
    "suffix": (
        lambda left, right: left.join(right, "full", on="k").select("v_right_right").collect(),
        ["k", "v", "v_right"],
        ["k", "v", "v_right"],
    ),
    "semi": (lambda left, right: left.join(right, "semi", on="k").select("w").collect(), ["k", "w"], ["k"]),
}


def nbytes(table, columns):
    """Of columns as they are read: in partitions and by row groups, so that padding may differ a little."""
    return table.select(columns).nbytes


@pytest.mark.parametrize("case", LESS)
def test_less_is_read(files, case):
    program, *columns = LESS[case]

    def main(env, without):
        context = TSetContext(env, without_rules=without)
        answer = program(*(context.read_parquet(str(files / f"{name}.parquet")) for name in ("left", "right")))
        return answer, context.read_report().n_bytes

    (answer, less), (plain, all_of_it) = (run_workers(1, lambda env, w=w: main(env, w))[0] for w in ((), ("columns",)))
    assert normal(answer) == normal(plain)
    wanted = sum(nbytes(table, names) for table, names in zip((LEFT, RIGHT), columns, strict=True) if names)
    assert less < 1.2 * wanted
    assert less < all_of_it


@pytest.mark.parametrize("without", [(), ("columns",)])
def test_columns_keep_their_order(without):
    """By which a join gives names: of the right, x is called x_right before its own x_right is looked at."""

    def job(env):
        context = TSetContext(env, without_rules=without)
        right = context.parallelize(pa.table({"k": [1], "x": ["x"], "x_right": ["own"], "rest": [0]}))
        joined = context.parallelize(pa.table({"k": [1], "x": ["left"]})).join(right, on="k", broadcast="no")
        found = []
        ends = (
            right.select("x_right", "k").lazy_for_each(lambda row: found.append(row["x_right"])),
            joined.select("x_right").lazy_for_each(lambda row: found.append(row["x_right"])),
        )
        context.run(*ends)
        return sorted(found)

    assert run_workers(1, job) == [["own", "x"]]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_meets_keeps_the_same_columns(workers):
    """A source leaves out nothing that is united with what cannot."""

    def job(env):
        context = TSetContext(env)
        table = context.parallelize(LEFT)
        both = table.union(context.parallelize(LEFT).lazy_cache())
        return [
            sorted(row["k"] for row in step(both).select("k").collect())
            for step in (lambda rows: rows.sort("k"), lambda rows: rows.distinct("k"), lambda rows: rows)
        ]

    keys = sorted(LEFT.column("k").to_pylist())
    assert run_workers(workers, job) == [[sorted(keys * 2), sorted(set(keys)), sorted(keys * 2)]] * workers


@pytest.mark.parametrize("without", [(), ("columns",)])
def test_what_a_select_leaves_out_is_missing_behind_it(files, without):
    def job(env):
        left = TSetContext(env, without_rules=without).read_parquet(str(files / "left.parquet"))
        left.select("k", "v").map(dict).sum("n")

    with pytest.raises(OperatorError, match="no column 'n'"):
        run_workers(1, job)

    def asks(env):
        table = TSetContext(env, without_rules=without).parallelize(LEFT)
        table.select("k", "v").map_batches(lambda batch: batch, form="arrow").select("n").collect()

    with pytest.raises(OperatorError, match="no column 'n'"):
        run_workers(1, asks)
