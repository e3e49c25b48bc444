"""Rules on joins of sets: a small side goes to all partitions, what lies by key stays where it is."""

from __future__ import annotations

import datetime
import decimal
import math
from collections import Counter

import numpy
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twister2.graph.rewrite import RULES
from twister2.spec.errors import OperatorError, StepMismatchError
from twister2_testkit.graphs import EXECUTORS, run_workers
from twister2_tset import TSetContext

pytestmark = pytest.mark.timeout(300)

KEY = st.one_of(st.none(), st.just(math.nan), st.integers(-2, 3), st.sampled_from([0.0, 1.5, True, "a"]))
PAIR = st.tuples(KEY, st.integers(0, 9))
SUBSETS = st.sets(st.sampled_from(sorted(RULES)))
HOW = st.sampled_from(["inner", "left", "right", "full", "semi", "anti"])


def normal(value):
    """Equal for operators; keys that are equal may come in the form of either side."""
    if isinstance(value, (list, tuple)):
        return tuple(map(normal, value))
    if isinstance(value, (bool, int, float)):
        return "nan" if value != value else float(value)
    return value


def plain_join(left, right, how):
    found = []
    for key, value in left:
        partners = [other for its, other in right if normal(its) == normal(key)]
        if how in ("semi", "anti"):
            found += [(key, value)] * (bool(partners) == (how == "semi"))
            continue
        found += [(key, (value, other)) for other in partners or ([None] if how in ("left", "full") else [])]
    if how in ("right", "full"):
        keys = {normal(key) for key, _ in left}
        found += [(key, (None, other)) for key, other in right if normal(key) not in keys]
    return Counter(map(normal, found))


BEFORE = {
    "as it is": lambda s: s,
    "map_values": lambda s: s.map_values(lambda v: v),
    "filter": lambda s: s.filter(lambda pair: True),
    "keyed_partition": lambda s: s.keyed_partition().map_values(lambda v: v),
    "cached": lambda s: s.keyed_partition().cache(),
    "cached as it is": lambda s: s.lazy_cache(),
    "other keys": lambda s: s.keyed_partition().map(lambda pair: pair),
}


@settings(max_examples=20, deadline=None, database=None)
@given(
    large=st.lists(PAIR, max_size=40),
    small=st.lists(PAIR, max_size=3),
    turned=st.booleans(),
    before=st.tuples(st.sampled_from(sorted(BEFORE)), st.sampled_from(sorted(BEFORE))),
    how=HOW,
    partitions=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    of_result=st.sampled_from([None, 1, 2, 3]),
    n_workers=st.integers(1, 3),
    executor=st.sampled_from(EXECUTORS),
    without=SUBSETS,
)
def test_joins_are_the_same_with_every_subset(
    large, small, turned, before, how, partitions, of_result, n_workers, executor, without
):
    data = (small, large) if turned else (large, small)
    expected = plain_join(*data, how)

    def main(env, left_out):
        context = TSetContext(env, without_rules=left_out)
        sides = [
            BEFORE[name](context.parallelize(records, number))
            for records, number, name in zip(data, partitions, before, strict=True)
        ]
        joined = sides[0].join(sides[1], how, partitions=of_result)
        groups = joined.keyed_gather().map_values(len)
        return (
            joined.collect(),
            joined.count(),
            [sorted(map(repr, map(normal, part))) for part in joined.gather()],
            joined.map_partitions(lambda records: [len(list(records))]).collect(),
            sorted(map(repr, map(normal, groups.collect()))),
        )

    answers = []
    for left_out in ((), without, tuple(RULES)):
        results = run_workers(n_workers, lambda env, left_out=left_out: main(env, left_out), executor=executor)
        assert all(repr(result[1:]) == repr(results[0][1:]) for result in results)
        found, count, *rest = results[0]
        assert Counter(map(normal, found)) == expected
        assert count == sum(expected.values())
        answers.append(rest)
    # how its pairs lie is the same too, wherever the program can see it
    assert answers[0] == answers[1] == answers[2]


ROW = st.fixed_dictionaries({"k": st.sampled_from([None, 0, 1, 2, 3, 4.5]), "j": st.integers(0, 2)})
ON = st.sampled_from(["k", ["k", "j"], {"k": "k", "j": "j"}, "j"])
BETWEEN = {
    "nothing": lambda s: s,
    "where": lambda s: s.where("j", "<", 2),
    "filter": lambda s: s.filter(lambda row: row["j"] != 1),
    "map": lambda s: s.map(lambda row: {**row, "k": row["j"]}),
    "select": lambda s: s.select("j", "k"),
    "cached": lambda s: s.cache(),
}


@settings(max_examples=20, deadline=None, database=None)
@given(
    sides=st.tuples(*[st.lists(ROW, min_size=1, max_size=8)] * 3),
    on=st.tuples(ON, ON),
    how=st.tuples(HOW, HOW),
    between=st.sampled_from(sorted(BETWEEN)),
    partitions=st.tuples(*[st.integers(1, 3)] * 2),
    n_workers=st.integers(1, 3),
    without=SUBSETS,
)
def test_joins_of_rows_one_behind_the_other(sides, on, how, between, partitions, n_workers, without):
    named = [
        [{**row, name: number} for number, row in enumerate(side)] for side, name in zip(sides, "abc", strict=True)
    ]

    def main(env, left_out):
        context = TSetContext(env, without_rules=left_out)
        one, other, third = (context.parallelize(side, 2) for side in named)
        first = BETWEEN[between](one.join(other, how[0], on=on[0], broadcast="no", partitions=partitions[0]))
        second = first.join(third, how[1], on=on[1], broadcast="no", partitions=partitions[1])
        return sorted(repr(sorted((name, normal(value)) for name, value in row.items())) for row in second.collect())

    plain, *others = (
        run_workers(n_workers, lambda env, left_out=left_out: main(env, left_out))
        for left_out in (tuple(RULES), without, ())
    )
    assert all(found == plain[0] for results in (plain, *others) for found in results)


@pytest.mark.parametrize(
    ("on", "again", "lies"),
    [
        ("k", "k", True),
        (["k", "j"], ["k", "j"], True),
        ({"k": "j"}, "k", True),
        ("k", "j", False),
        (["k", "j"], ["j", "k"], False),
    ],
)
def test_rows_that_were_joined_by_a_column_lie_by_it(on, again, lies):
    def build(context):
        one, other, third = (context.source(lambda index: [{"k": index, "j": 1}]) for _ in range(3))
        return one.join(other, "full", on=on).where("k", ">=", 0).join(third, on=again)

    assert ("colocate: join" in plan(build)) == lies


def test_pairs_behind_what_brought_them_by_key():
    def build(context):
        pairs = context.source(lambda index: [(index, 1)])
        sums, means = pairs.keyed_partition().keyed_reduce("sum"), pairs.group_by_key().mean()
        return sums.join(means).map_values(sum).group_by_key().max()

    text = plan(build)
    assert [line.split("(")[0] for line in text.splitlines() if "colocate:" in line] == [
        "  colocate: keyed_reduce ",
        "  colocate: join ",
        "  colocate: max ",
    ]
    assert "in_place=0 and 1" in text


LARGE = [(k % 50, k) for k in range(5000)]
SMALL = [(k, str(k)) for k in range(5)]


def plan(build, n_workers=2, **options):
    results = run_workers(n_workers, lambda env: build(TSetContext(env, **options)).explain())
    assert len(set(results)) == 1, "workers plan differently"
    return results[0]


@pytest.mark.parametrize(
    ("how", "turned", "side"),
    [("inner", False, "right"), ("inner", True, "left"), ("left", False, "right"), ("right", True, "left"),
     ("left", True, None), ("right", False, None), ("full", False, None), ("full", True, None),
     ("semi", False, "right"), ("anti", False, "right"), ("semi", True, None), ("anti", True, None)],
)  # fmt: skip
def test_a_small_list_goes_to_all_partitions(how, turned, side):
    data = (SMALL, LARGE) if turned else (LARGE, SMALL)
    text = plan(lambda context: context.parallelize(data[0]).join(context.parallelize(data[1]), how))
    assert (f"the {side} side, parallelize" in text) if side else "broadcast_join" not in text


def test_arrays_and_tables_know_their_size_too():
    def build(context):
        large = context.parallelize(numpy.zeros((9000, 2)))
        return large.join(context.parallelize(pa.table({"k": [0.0], "v": [1.0]})).map(lambda row: tuple(row.values())))

    assert "goes to all 2 tasks" in plan(build)


@pytest.mark.parametrize(
    "other",
    [
        lambda large, small: large.join(small, broadcast="no"),
        lambda large, small: large.join(small, algorithm="sort"),
        lambda large, small: large.join(small).map_partitions(list),
        lambda large, small: large.join(small).sample(0.5),
        lambda large, small: large.join(small).map(lambda pair, *, context: context.index),
        lambda large, small: large.join(small.flat_map_values(lambda v: [v] * 1000), "left"),
    ],
)
def test_when_both_sides_go_where_their_keys_belong(other):
    assert "broadcast_join" not in plan(lambda c: other(c.parallelize(LARGE), c.parallelize(SMALL)))


@pytest.mark.parametrize("how", ["inner", "left"])
def test_a_side_that_the_program_says_is_small(how):
    def main(env):
        context = TSetContext(env)
        numbers = context.source(lambda index: [(k % 7, k) for k in range(index, 100, 2)])
        joined = numbers.join(context.source(lambda index: [(index, "x")]), how, broadcast="right")
        return joined.collect(), joined.explain()

    found, text = run_workers(2, main)[0]
    left, right = [(k % 7, k) for k in range(100)], [(0, "x"), (1, "x")]
    assert Counter(map(normal, found)) == plain_join(left, right, how)
    assert "broadcast='right'" in text


def test_a_side_that_cannot_go_to_all_is_an_error_with_the_users_line():
    def main(env):
        context = TSetContext(env)
        return context.parallelize(LARGE).join(context.parallelize(SMALL), "full", broadcast="right").collect()

    with pytest.raises(OperatorError, match=r"(?s)join \(test_rules_joins.py:\d+\).*cannot go to all targets"):
        run_workers(2, main)


def test_files_know_their_size_and_kept_sets_once_they_were_read(tmp_path):
    pa.parquet.write_table(pa.table({"k": [1, 2], "v": ["a", "b"]}), tmp_path / "small.parquet")

    def main(env):
        context = TSetContext(env)
        large = context.parallelize(LARGE)
        files = context.read_parquet(str(tmp_path / "small.parquet")).map(lambda row: (row["k"], row["v"]))
        joined = [large.join(files), large.join(context.parallelize(SMALL[:2]).cache())]
        before = joined[0].explain()
        return [one.collect() for one in joined], [before, *(one.explain() for one in joined)]

    for found, texts in run_workers(2, main):
        assert Counter(map(normal, found[0])) == plain_join(LARGE, [(1, "a"), (2, "b")], "inner")
        assert Counter(map(normal, found[1])) == plain_join(LARGE, SMALL[:2], "inner")
        assert all("the right side, " in text and "is not known here" not in text for text in texts)


def test_workers_that_take_different_sides_for_small_notice_it():
    def main(env):
        context = TSetContext(env)
        text = "x" * (1 if env.worker_id else 1 << 20)  # as many records, of other sizes
        names = context.parallelize([(k, f"{text}{k}") for k in range(20)])
        return context.parallelize(LARGE).join(names).count()

    with pytest.raises(StepMismatchError):
        run_workers(2, main)


def test_loops_on_kept_sets_that_lie_by_key():
    """A kind of PageRank: edges and ranks stay where they are."""
    edges = [(k % 20, (k * 7 + 3) % 20) for k in range(60)]

    def main(env, without):
        context = TSetContext(env, without_rules=without)
        links = context.parallelize(edges).keyed_gather().cache()
        ranks = context.parallelize([(k, 1) for k in range(20)]).keyed_partition().cache()
        shares = links.join(ranks).flat_map(lambda pair: [(to, pair[1][1]) for to in pair[1][0]])
        following = shares.keyed_reduce(lambda a, b: (a + b) % 1009)
        with context.evaluating(following, ranks) as step:
            for _ in range(5):
                step()
        return sorted(ranks.collect()), links.join(ranks).explain()

    ranks = dict.fromkeys(range(20), 1)
    for _ in range(5):
        shares = Counter()
        for origin, to in edges:
            if origin in ranks:
                shares[to] += ranks[origin]
        ranks = {key: value % 1009 for key, value in shares.items()}
    for without in ((), ("colocate",), tuple(RULES)):
        for found, text in run_workers(2, lambda env, without=without: main(env, without)):
            assert found == sorted(ranks.items())
            assert ("colocate: join" in text) == (not without)


@pytest.mark.parametrize(
    ("build", "lies"),
    [
        (lambda s: s.group_by("k").agg(n="count").join(s, on="k"), ["join"]),
        (lambda s: s.join(s, on="k").group_by("k").agg(n="count"), ["agg"]),
        (lambda s: s.join(s, on="k").where("v", ">", 0).group_by("k").sum("v"), ["sum"]),
        (lambda s: s.partition("hash", key="k").group_by("k").agg(n="count").join(s, on={"k": "v"}), ["agg", "join"]),
        (lambda s: s.partition("range", key="k").group_by("k").agg(n="count"), []),
        (lambda s: s.partition("hash", key="v").group_by("k").agg(n="count"), []),
        (lambda s: s.group_by("k").agg(v=("v", "sum")).join(s, on="v"), []),
        (lambda s: s.group_by("k").agg(n="count").select("k").join(s, on="k"), []),
        (lambda s: s.group_by("k", partitions=3).agg(n="count").join(s, on="k", partitions=2), []),
        (lambda s: s.group_by("k", "v").agg(n="count").join(s, on=["k", "v"]), []),
    ],
)
def test_rows_behind_groups_and_partitions_by_a_column(build, lies):
    text = plan(lambda context: build(context.source(lambda index: [{"k": index, "v": 1}])))
    assert [line.split()[1] for line in text.splitlines() if line.startswith("  colocate:")] == lies


KEYS = {
    "int": [0, 1, -5, 1 << 40, None],
    "float": [0.0, -0.0, 1.5, math.nan, None],
    "text": ["a", "b", "", "long " * 20, None],
    "bool": [True, False, None],
    "date": [datetime.date(2020, 1, day) for day in range(1, 6)],
    "time": [datetime.datetime(2020, 1, day, 5) for day in range(1, 6)],
    "decimal": [decimal.Decimal(n) / 4 for n in range(5)],
}


@pytest.mark.parametrize("form", ["dicts", "table", "dictionary"])
@pytest.mark.parametrize("kind", KEYS)
def test_rows_that_lie_by_a_column_find_each_other(kind, form):
    keys = KEYS[kind]
    rows = [{"k": keys[n % len(keys)], "v": n} for n in range(20)]
    data = rows if form == "dicts" else pa.Table.from_pylist(rows)
    if form == "dictionary":
        data = data.set_column(0, "k", data["k"].combine_chunks().dictionary_encode())

    def main(env, without, partitions):
        context = TSetContext(env, partitions=partitions, without_rules=without)
        some, other = context.parallelize(data), context.parallelize(data)
        groups = some.group_by("k").agg(n="count")
        joined = some.partition("hash", key="k").join(groups, "full", on="k", broadcast="no")
        both = joined.join(other, "full", on="k", broadcast="no").group_by("k").agg(m="count")
        return sorted(repr(sorted((name, normal(value)) for name, value in row.items())) for row in both.collect())

    for n_workers, partitions in ((3, None), (2, 5)):
        plain, found = (
            run_workers(n_workers, lambda env, w=w, p=partitions: main(env, w, p))[0] for w in (("colocate",), ())
        )
        assert found == plain


@pytest.mark.parametrize("kind", ["datetime64[ns]", "timedelta64[ns]", "datetime64[us]"])
def test_rows_of_arrays_lie_by_times_as_those_of_tables(kind):
    array = numpy.array([(n * 1_000_000_000, n) for n in range(40)], [("k", kind), ("v", int)])
    array["k"][7] = "NaT"
    table = pa.table({name: array[name] for name in ("k", "v")})

    def main(env):
        context = TSetContext(env)
        lying = context.parallelize(array, 3).partition("hash", key="k", partitions=3)
        joined = lying.join(context.parallelize(table, 2), on="k", broadcast="no", partitions=3)
        return "colocate: join" in joined.explain(), joined.count()

    assert run_workers(3, main) == [(True, 40)] * 3
