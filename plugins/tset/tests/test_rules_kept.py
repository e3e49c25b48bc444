"""Rule colocate behind sets that are kept: they know how their records lie, as long as that is true."""

from __future__ import annotations

import datetime
import decimal

import numpy
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twister2.spec.errors import Twister2Error
from twister2.worker.figures import Figures
from twister2_testkit.graphs import EXECUTORS, run_workers
from twister2_tset import TSetContext

pytestmark = pytest.mark.timeout(300)

FILLED = {
    "partition": lambda rows, n: rows.partition("hash", key="k", partitions=n),
    "other column": lambda rows, n: rows.partition("hash", key="v", partitions=n),
    "range": lambda rows, n: rows.partition("range", key="k", partitions=n),
    "groups": lambda rows, n: rows.group_by("k", partitions=n).agg(v=("v", "min"), n="count"),
    "join": lambda rows, n: rows.join(rows.select("k").distinct(), on="k", broadcast="no", partitions=n),
    "nothing": lambda rows, n: rows.where("v", ">=", 0),
}
BETWEEN = {
    "nothing": lambda rows: rows,
    "where": lambda rows: rows.where("v", "!=", 2),
    "filter": lambda rows: rows.filter(lambda row: row["v"] != 3),
    "map": lambda rows: rows.map(lambda row: {"k": row["v"], "v": row["k"]}),
    "select": lambda rows: rows.select("v", "k"),
    "again": lambda rows: rows.sample(1.0).lazy_cache(),
}
KEEPS = ["cache", "persist", "lazy_cache", "lazy_persist"]
BEHIND = {
    "join": lambda kept, other: kept.join(other, "full", on="k", broadcast="no"),
    "joined to": lambda kept, other: other.join(kept, "left", on="k", broadcast="no"),
    "by another name": lambda kept, other: other.join(kept, on={"v": "k"}, broadcast="no"),
    "two columns": lambda kept, other: kept.join(other, on=["k", "v"], broadcast="no"),
    "groups": lambda kept, other: kept.group_by("k").agg(n="count"),
    "one of each": lambda kept, other: kept.select("k").distinct("k"),
    "itself": lambda kept, other: kept.join(kept.select("k"), on="k", broadcast="no"),
}


def normal(value):
    """Equal keys may come in the form of either side."""
    if isinstance(value, (numpy.datetime64, datetime.datetime)):
        return str(pa.scalar(value).cast(pa.timestamp("us")))
    if isinstance(value, (bool, int, float, decimal.Decimal)):
        return "nan" if value != value else float(value)
    return str(value)


def answer(build, n_workers, without):
    """Rows as they are whatever their order, or how it fails."""

    def main(env):
        found = build(TSetContext(env, without_rules=without)).collect()
        return sorted(repr(sorted((name, normal(value)) for name, value in row.items())) for row in found)

    try:
        return run_workers(n_workers, main)
    except Twister2Error as error:
        return type(error)


@settings(max_examples=25, deadline=None, database=None)
@given(
    keys=st.lists(st.sampled_from([None, 0, 1, 2, 3, -4, 5]), min_size=1, max_size=20),
    others=st.lists(st.integers(-4, 5), min_size=1, max_size=8),
    filled=st.sampled_from(sorted(FILLED)),
    keep=st.sampled_from(KEEPS),
    between=st.sampled_from(sorted(BETWEEN)),
    behind=st.sampled_from(sorted(BEHIND)),
    partitions=st.tuples(*[st.integers(1, 4)] * 2),
    n_workers=st.integers(1, 3),
    as_table=st.booleans(),
)
def test_answers_are_the_same_without_the_rule(
    keys, others, filled, keep, between, behind, partitions, n_workers, as_table
):
    rows = [{"k": key, "v": number % 5} for number, key in enumerate(keys)]
    form = pa.Table.from_pylist if as_table else list

    def build(context):
        kept = getattr(FILLED[filled](context.parallelize(form(rows), 2), partitions[0]), keep)()
        other = context.parallelize([{"k": key, "v": 1} for key in others], partitions[1])
        return BEHIND[behind](BETWEEN[between](kept), other)

    found, plain, bare = (answer(build, n_workers, without) for without in ((), ("colocate",), ("fuse",)))
    assert found == plain == bare


def array(kind):
    return lambda rows: numpy.array([(row["k"], row["v"]) for row in rows], [("k", kind), ("v", int)])


def table(kind):
    return lambda rows: pa.table(
        {"k": pa.array([row["k"] for row in rows]).cast(kind), "v": pa.array([row["v"] for row in rows])}
    )


NUMBERS, TEXTS = [0, 1, 2, 3, 40], ["a", "b", "", "long " * 20]
TIMES = [datetime.datetime(2020, 1, day, 5) for day in range(1, 6)]
ZONE = datetime.timezone(datetime.timedelta(hours=2))
FORMS = {
    "numbers": (NUMBERS, [list, *map(array, ("i4", "f8", ">i8")),
                          *map(table, (pa.int8(), pa.int32(), pa.uint64(), pa.float32(), pa.float64()))]),
    "texts": (TEXTS, [list, array("U100"), table(pa.string()), table(pa.large_string()),
                      table(pa.dictionary(pa.int8(), pa.string()))]),
    "times": (TIMES, [list, array("M8[s]"), array("M8[ns]"), table(pa.timestamp("s")), table(pa.timestamp("us")),
                      table(pa.timestamp("ns"))]),
    "zones": ([time.replace(tzinfo=datetime.UTC) for time in TIMES],
              [list, lambda rows: [{**row, "k": row["k"].astimezone(ZONE)} for row in rows],
               table(pa.timestamp("us", "UTC")), table(pa.timestamp("ms", "+02:00"))]),
}  # fmt: skip
"""Equal keys of several types."""


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("n_workers", [2, 3])
def test_equal_keys_meet_whatever_their_types(kind, n_workers):
    keys, forms = FORMS[kind]
    rows = [{"k": keys[n % len(keys)], "v": n} for n in range(3 * len(keys))]

    def main(env, without):
        context = TSetContext(env, without_rules=without)
        sets = [context.parallelize(form(rows), 2) for form in forms]
        kept = [one.partition("hash", key="k", partitions=3).cache() for one in sets]
        pairs = [(left, right) for left in kept for right in sets]
        return [left.join(right, on="k", broadcast="no").count() for left, right in pairs], kept[0].join(
            sets[-1], on="k", broadcast="no"
        ).explain()

    for without in ((), ("colocate",)):
        for counts, text in run_workers(n_workers, lambda env, w=without: main(env, w)):
            assert set(counts) == {9 * len(keys)}
            assert ("by k in 3 partitions already" in text) == (not without)


@pytest.fixture
def sent(monkeypatch):
    """Bytes that edges have sent between workers."""
    found = []

    def add(self, graph, counters, *, as_it_is=Figures.add):
        found.extend(values["bytes_sent"] for name, values in counters.items() if name.startswith("edge "))
        as_it_is(self, graph, counters)

    monkeypatch.setattr(Figures, "add", add)
    return found


def sums(links, ranks):
    joined = ranks.join(links, on="k", broadcast="no")
    return joined.group_by("to").agg(rank=("rank", "sum")).map(lambda row: {"k": row["to"], "rank": row["rank"] % 101})


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("keep", KEEPS)
def test_nothing_of_the_kept_side_is_sent_in_a_loop(sent, executor, keep):
    """A kind of PageRank on rows: what travels in an iteration does not depend on how many links there are."""

    def main(env, repeated):
        context = TSetContext(env)
        rows = [{"k": n % 10, "to": n * 7 % 10} for n in range(10)] * repeated
        links = getattr(context.parallelize(rows).partition("hash", key="k"), keep)()
        ranks = context.parallelize([{"k": k, "rank": 1} for k in range(10)]).cache()
        found = []
        with context.evaluating(sums(links, ranks), into=ranks) as step:
            for _ in range(3):
                env.barrier("before")
                sent.clear()
                env.barrier("cleared")
                step()
                env.barrier("behind")
                found.append(sum(sent))
            assert "by k in 2 partitions already" in step.explain()
        return found[1:], sorted(row["rank"] for row in ranks.collect())

    few_and_many = []
    for times in (1, 300):
        expected = dict.fromkeys(range(10), 1)
        for _ in range(3):
            expected = {k * 7 % 10: rank * times % 101 for k, rank in expected.items()}
        results = run_workers(2, lambda env, times=times: main(env, times), executor=executor)
        assert [ranks for _, ranks in results] == [sorted(expected.values())] * 2
        few_and_many.append([sent for sent, _ in results])
    assert few_and_many[0] == few_and_many[1]


def lies(one, other):
    return "colocate: join" in one.join(other, on="k", broadcast="no").explain()


def test_what_is_not_true_any_more_is_forgotten():
    rows = [{"k": n % 7, "v": n % 5} for n in range(40)]
    other_rows = [{"k": n, "w": n} for n in range(7)]
    updates = {
        "some of them": (lambda rows: rows.where("v", ">", 0), True),
        "other records": (lambda rows: rows.map(lambda row: {"k": row["v"], "v": row["k"]}), False),
        "by another column": (lambda rows: rows.partition("hash", key="v"), False),
        "in other places": (lambda rows: rows.partition("round_robin"), False),
        "again": (lambda rows: rows.partition("hash", key="k"), True),
    }

    def main(env, without):
        context = TSetContext(env, without_rules=without)
        other = context.parallelize(other_rows).cache()
        kept = context.parallelize(rows).partition("hash", key="k").cache()
        joined = kept.join(other, on="k", broadcast="no").lazy_cache()
        found = [lies(kept, other)]
        answers = []
        with context.evaluating(joined, into=joined) as again:  # prepared before the others lie elsewhere
            for update, _ in updates.values():
                context.eval_and_update(update(kept), kept)
                again()
                answers.append(sorted((row["k"], row["v"], row["w"]) for row in joined.collect()))
                found.append(lies(kept, other))
        return found, answers

    (found, answers), *_ = run_workers(2, lambda env: main(env, ()))
    assert found == [True, *(stays for _, stays in updates.values())]
    assert answers == run_workers(2, lambda env: main(env, ("colocate",)))[0][1]


def test_sets_that_lie_in_as_many_partitions_only():
    def main(env):
        context = TSetContext(env)
        other = context.parallelize([{"k": 1, "w": 1}])
        two, three = (
            context.parallelize([{"k": 1, "v": 1}]).partition("hash", key="k", partitions=n).cache() for n in (2, 3)
        )
        return lies(two, other), lies(three, other), lies(two, three), lies(two.map(dict), other)

    assert run_workers(2, main) == [(True, True, True, False)] * 2


@pytest.mark.parametrize("keep", ["lazy_cache", "lazy_persist"])
def test_the_plan_before_a_lazy_set_is_filled_is_that_which_runs(keep):
    def main(env):
        context = TSetContext(env)
        rows = getattr(context.parallelize([{"k": 1, "v": 1}]).partition("hash", key="k"), keep)()
        groups = rows.group_by("k").agg(n="count")
        before = groups.explain()
        groups.count()
        return ["colocate: agg" in text for text in (before, groups.explain())]

    assert run_workers(2, main) == [[True, True]] * 2
