"""Steps between partitions, given what they cannot take: a clear error on every worker, or the documented answer."""

from __future__ import annotations

import math
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from twister2.spec.errors import KeyHashError, OperatorError, Twister2Error, UsageError, UserCodeError
from twister2_testkit.graphs import EXECUTORS
from twister2_tset import TSetContext

pytestmark = pytest.mark.timeout(120)

NOON = datetime(2020, 1, 1, 12)
ZONED = NOON.replace(tzinfo=timezone(timedelta(hours=5)))


@pytest.fixture(params=EXECUTORS)
def executor(request):
    return request.param


@pytest.mark.parametrize(
    ("job", "error", "text"),
    [
        # reducers
        (lambda s: s.reduce(lambda a, b: None), OperatorError, "reducer of reduce returned None for"),
        (lambda s: s.reduce(lambda a, b: str(a)), OperatorError, "reducer of reduce returned '.*', a str"),
        (lambda s: s.all_reduce(lambda a, b: None).collect(), OperatorError, "reducer of all_reduce returned None"),
        (lambda s: s.key_by(lambda x: 1).keyed_reduce(lambda a, b: None).count(), OperatorError, "keyed_reduce.*None"),
        (lambda s: s.aggregate(0, lambda a, x: a + x, lambda a, b: [a, b]), OperatorError, "aggregate returned"),
        (lambda s: s.aggregate(0, lambda a, x: a.nothing), UserCodeError, "aggregate .*AttributeError"),
        # partitioners
        (lambda s: s.partition(lambda x, n: -1).count(), OperatorError, "partitioner of .*partition.* returned -1"),
        (lambda s: s.partition(lambda x, n: n).count(), OperatorError, "returned 2 for"),
        (lambda s: s.partition(lambda x, n: 0.0).count(), OperatorError, "a float is no index"),
        (lambda s: s.partition(lambda x, n: None).count(), OperatorError, "returned None"),
        (lambda s: s.partition(lambda x, n: 1 / 0).count(), UserCodeError, "partitioner .*ZeroDivisionError"),
        (lambda s: s.partition("nearest").count(), OperatorError, "nearest"),
        (lambda s: s.key_by(abs).keyed_partition(lambda p, n: True).count(), OperatorError, "returned True"),
        (lambda s: s.key_by(abs).keyed_gather(partitioner=lambda p, n: 99).count(), OperatorError, "returned 99"),
        (lambda s: s.key_by(abs).join(s.key_by(abs), partitioner=lambda p, n: n).count(), OperatorError, "returned 2"),
        (lambda s: s.key_by(abs).join(s.key_by(abs), partitioner="near").count(), UsageError, "partitioner"),
        (lambda s: s.partition("round_robin", key=abs), UsageError, "a key is given, and round_robin looks at none"),
        (lambda s: s.partition(lambda x, n: 0, key="n"), UsageError, "a key is given, and .*lambda.* looks at none"),
        (lambda s: s.partition(key=[]), UsageError, "partition: nothing is named"),
        (lambda s: s.map(lambda x: {"n": x}).partition().count(), KeyHashError, "(?s)cannot be a key.*'round_robin'"),
        (lambda s: s.distinct(["n", 3]), UsageError, "distinct: 3 is no name"),
        # keys
        (lambda s: s.key_by(lambda x: [x]).keyed_gather().count(), KeyHashError, "cannot be a key"),
        (lambda s: s.key_by(lambda x: {}).keyed_partition().count(), KeyHashError, "cannot be a key"),
        (lambda s: s.key_by(lambda x: {}).join(s.key_by(abs)).count(), KeyHashError, "cannot be a key"),
        (lambda s: s.key_by(lambda x: {}).co_group().count(), KeyHashError, "cannot be a key"),
        (lambda s: s.group_by(lambda x: [x]).sum().count(), KeyHashError, "cannot be a key"),
        (lambda s: s.map(lambda x: {1, x}).distinct().count(), KeyHashError, "cannot be a key"),
        (lambda s: s.group_by("town").count().collect(), OperatorError, "count .* needs 'town'"),
        (lambda s: s.map(lambda x: {"n": x}).sort("town").collect(), OperatorError, "sort .* needs 'town'"),
        (lambda s: s.map(lambda x: {"n": x}).select("n", "m").collect(), OperatorError, "no column 'm'"),
        # records that are no pairs, no numbers, not alike
        (lambda s: s.map_values(abs).count(), OperatorError, r"map_values takes \(key, value\) pairs"),
        (lambda s: s.keys().count(), OperatorError, "keys takes"),
        (lambda s: s.keyed_direct().count(), OperatorError, "keyed_direct takes"),
        (lambda s: s.group_by_key().count().count(), OperatorError, "group_by_key takes"),
        (lambda s: s.co_group(s).count(), OperatorError, "co_group .*takes"),
        (lambda s: s.map(str).sum(), OperatorError, "sum: '.' is no number"),
        (lambda s: s.map(str).mean(), OperatorError, "mean: '.' is no number"),
        (
            lambda s: s.map(lambda x: (x, None)).variance(lambda pair: pair[1]),
            OperatorError,
            "variance: .* is no number",
        ),
        (
            lambda s: s.map(lambda x: x if x < 3 else "a").sort(lambda x: 0, lambda x: x).collect(),
            Twister2Error,
            "sort",
        ),
        (lambda s: s.map(lambda x: x if x < 3 else "a").max(), OperatorError, "max: two records cannot be compared"),
        (lambda s: s.sort(comparator=lambda a, b: None).collect(), OperatorError, "the comparator returned None"),
        (lambda s: s.sort(comparator=lambda a, b: a < b).collect(), OperatorError, "the comparator returned"),
        (lambda s: s.sort(comparator=lambda a, b: 1 / 0).collect(), UserCodeError, "ZeroDivisionError"),
        # functions
        (lambda s: s.compute(lambda records: 1 / 0).collect(), UserCodeError, "compute .*ZeroDivisionError"),
        (lambda s: s.map_partitions(lambda records: 5).collect(), UserCodeError, "returned 5, an int"),
        (lambda s: s.map_partitions(lambda records: (1 / 0 for _ in records)).collect(), UserCodeError, "ZeroDivision"),
        (lambda s: s.map_partitions(lambda records: (next(iter([])) for _ in records)).count(), UserCodeError, "Stop"),
        (
            lambda s: s.group_by(abs).map_groups(lambda key, vs: key + "").count(),
            UserCodeError,
            "map_groups .*TypeError",
        ),
        (lambda s: s.group_by(abs).map_groups(lambda k, v: 1 // (k - 3)).count(), UserCodeError, r"\(\(3, \[3\]\)\)"),
        (lambda s: s.key_by(abs).flat_map_values(lambda v: v).count(), UserCodeError, "flat_map_values .*iterable"),
        (lambda s: s.with_schema({"n": str}).count(), OperatorError, "does not fit the schema"),
        (lambda s: s.map(lambda x: (x, x)).with_schema({"n": int}).count(), OperatorError, "has not 1 columns"),
        (lambda s: s.map(lambda x: {"n": 300}).with_schema({"n": "int8"}).count(), OperatorError, "does not fit"),
        (lambda s: s.map(lambda x: {"m": 1}).with_schema({"n": int}).count(), OperatorError, "no column 'n'"),
        (
            lambda s: s.map(lambda x: {"n": x / 2}).with_schema({"n": int}).collect(),
            OperatorError,
            r"\.5 would become",
        ),
        (
            lambda s: s.map(lambda x: (Decimal("2.5"),)).with_schema({"n": int}).collect(),
            OperatorError,
            "would become 2",
        ),
        (lambda s: s.map(lambda x: {"t": NOON}).with_schema({"t": date}).collect(), OperatorError, "would become"),
        (lambda s: s.map(lambda x: {"t": ZONED}).with_schema({"t": datetime}).collect(), OperatorError, "would become"),
        (
            lambda s: s.map(lambda x: {"n": x}).where("n", ">", "3").count(),
            OperatorError,
            "'n' cannot be compared with '3'",
        ),
        (lambda s: s.collect(form="pandas"), UsageError, r"to_pandas\(\)"),
    ],
)
def test_wrong_records_and_functions_are_named(run_workers, executor, job, error, text):
    with pytest.raises(error, match=text):
        run_workers(2, lambda env: job(TSetContext(env).parallelize([1, 2, 3, 4])), executor=executor)


def test_a_reducer_of_nothing_returned_names_step_and_line(run_workers):
    def forgets(a, b):
        a + b

    with pytest.raises(OperatorError) as caught:
        run_workers(2, lambda env: TSetContext(env).parallelize(range(9)).reduce(forgets))
    assert "test_bad_operations.py:" in caught.value.where
    assert "without a return statement" in caught.value.why


def test_reducers_may_mix_numbers_and_may_meet_none(everywhere):
    def job(context):
        mixed = context.parallelize([1, 2.5, True, 4], 2)
        some = context.parallelize([None, 3, None, 5], 4)
        return mixed.reduce(lambda a, b: a + b), some.reduce(lambda a, b: max(a or 0, b or 0))

    assert everywhere(2, job) == (8.5, 5)


@pytest.mark.parametrize("step", ["join", "union", "co_group", "cross", "zip", "add_input"])
def test_sets_of_another_environment_are_refused(run_workers, step):
    def other(env):
        return TSetContext(env).parallelize([(1, 1)]).map(lambda pair: pair).cache()

    kept = run_workers(1, other)[0]

    def job(env):
        mine = TSetContext(env).parallelize([(1, 2)]).map(lambda pair: pair)
        return mine.add_input("kept", kept) if step == "add_input" else getattr(mine, step)(kept)

    with pytest.raises(UsageError, match="belongs to another environment"):
        run_workers(1, job)


def test_keys_that_are_none_nan_or_of_many_types_equal_themselves(everywhere):
    keys = [None, math.nan, "1", 1, 1.0, True, (1, None), b"1", None, float("nan"), frozenset({1}), "1"]

    def job(context):
        keyed = context.parallelize([(key, 1) for key in keys], 4)
        reduced = keyed.keyed_reduce("sum").collect()
        gathered = keyed.keyed_gather().map_values(len).collect()
        joined = keyed.join(context.parallelize([(None, "none"), (math.nan, "nan"), ("1", "text")], 2)).collect()
        distinct = keyed.keys().distinct().count()
        return sorted(map(repr, reduced)), sorted(map(repr, gathered)), sorted(map(repr, joined)), distinct

    expected = ["('1', 2)", "((1, None), 1)", "(1, 3)", "(None, 2)", "(b'1', 1)", "(frozenset({1}), 1)", "(nan, 2)"]
    joined = ["('1', (1, 'text'))"] * 2 + ["(None, (1, 'none'))"] * 2 + ["(nan, (1, 'nan'))"] * 2
    for n in (1, 3):
        reduced, gathered, pairs, distinct = everywhere(n, job)
        assert reduced == gathered == expected
        assert pairs == sorted(joined)
        assert distinct == 7


def test_empty_sets_everywhere(everywhere):
    def job(context):
        empty = context.parallelize([], 3)
        some = context.parallelize([(1, 2)], 2)
        steps = (
            empty.distinct(), empty.sort(), empty.count_by_value(), empty.zip_with_index(), empty.zip(some),
            some.zip(empty), some.cross(empty), empty.cross(some), empty.join(some), some.join(empty),
            empty.keyed_gather(), empty.group_by_key().mean(), empty.group_by(abs).variance(), empty.keyed_reduce(max),
            empty.partition(), empty.replicate(), empty.all_gather(), empty.all_reduce("sum"), empty.union(empty),
            empty.co_group(empty), empty.sample(1), empty.select("a"), empty.where("a", "==", 1), empty.cache(),
            empty.map_partitions(list), empty.with_schema({"a": int}), empty.map_values(abs), empty.keys(),
        )  # fmt: skip
        whole = some.join(empty, "left").collect(), empty.join(some, "full").collect(), empty.co_group(some).collect()
        return [step.collect() for step in steps], whole, empty.compute(list).collect(), empty.top(3), empty.count()

    found, whole, computed, top, count = everywhere(2, job)
    assert found == [[]] * 28
    assert whole == ([(1, (2, None))], [(1, (None, 2))], [(1, ([], [2]))])
    assert (computed, top, count) == ([[], [], []], [], 0)


def test_an_error_on_one_worker_ends_all_of_them(run_workers, executor):
    def fail(pair):
        if pair[0] == 7:
            raise ValueError("seven")
        return pair

    def job(env):
        context = TSetContext(env)
        for _ in range(5):
            context.parallelize(range(8), 4).zip_with_index().map(fail).group_by(lambda p: p[0] % 2).count().collect()

    with pytest.raises(UserCodeError, match="seven"):
        run_workers(3, job, executor=executor)


@pytest.mark.parametrize("step", ["zip_with_index", "cross", "compute", "zip", "distinct", "all_gather"])
def test_what_is_held_goes_to_disk_when_memory_is_short(run_workers, tmp_path, step):
    count = 3000 if step == "all_gather" else 8000  # a batch is one record on its way there
    data = [(number, "x" * 1000) for number in range(count)]

    def job(env):
        records = TSetContext(env).parallelize(data, 2).map(lambda pair: (pair[0], f"{pair[1]}{pair[0]}"))
        if step == "cross":
            found = records.cross(records.filter(lambda pair: pair[0] < 3)).map(lambda two: two[1][0] + 1).sum()
        elif step == "compute":
            found = records.map_partitions(lambda walk: (pair[0] for pair in walk)).sum()
        elif step == "zip":
            found = records.zip(records).map(lambda two: two[0] == two[1] and two[0][0]).sum()
        elif step == "distinct":
            found = records.distinct().map(lambda pair: pair[0]).sum()
        elif step == "all_gather":
            found = sum(records.all_gather().map(lambda placed: placed[1][0]).collect())
        else:
            found = records.zip_with_index().map(lambda pair: pair[0][0] == pair[1] and pair[1]).sum()
        return found, env.memory.use().spilled

    total = sum(range(count))
    expected = {"cross": count * 6, "all_gather": total * 2}.get(step, total)
    for found, spilled in run_workers(2, job, memory_bytes=3 << 20, spill_dirs=[str(tmp_path)]):
        assert found == expected
        assert spilled > 0
    assert not list(tmp_path.iterdir())


ONCE = {
    "join": lambda whole, s: s.join(whole),
    "join of it": lambda whole, s: whole.join(s),
    "join on": lambda whole, s: s.join(whole, on="k"),
    "join broadcast": lambda whole, s: s.join(whole, broadcast="right"),
    "co_group": lambda whole, s: s.co_group(s, whole),
    "cross": lambda whole, s: s.cross(whole),
    "union": lambda whole, s: s.union(s, whole),
    "zip": lambda whole, s: s.zip(whole),
    "zip of it": lambda whole, s: whole.zip(s),
    "zip_with_index": lambda whole, s: whole.zip_with_index(),
    "sample": lambda whole, s: whole.sample(0.5),
    "sort": lambda whole, s: whole.sort(),
    "distinct": lambda whole, s: whole.distinct(),
    "partition": lambda whole, s: whole.partition(),
    "limit": lambda whole, s: whole.limit(2),
    "replicate": lambda whole, s: whole.replicate(),
    "all_reduce": lambda whole, s: whole.all_reduce("sum"),
    "all_gather": lambda whole, s: whole.all_gather(),
    "count_by_value": lambda whole, s: whole.count_by_value(),
    "keyed_reduce": lambda whole, s: whole.keyed_reduce("sum"),
    "keyed_gather": lambda whole, s: whole.keyed_gather(),
    "agg": lambda whole, s: whole.group_by("k").agg(rows="count"),
    "count of groups": lambda whole, s: whole.group_by(len).count(),
    "count": lambda whole, s: whole.count(),
    "sum": lambda whole, s: whole.sum(),
    "variance": lambda whole, s: whole.variance(ddof=1),
    "std": lambda whole, s: whole.std(ddof=1),
    "reduce": lambda whole, s: whole.reduce("sum"),
    "aggregate": lambda whole, s: whole.aggregate(0, lambda a, x: a + 1, lambda a, b: a + b),
    "top": lambda whole, s: whole.top(2),
    "write_text": lambda whole, s: whole.write_text("never"),
    "save": lambda whole, s: whole.save("never.csv"),
}
WHOLE = {
    "replicate": lambda s: s.replicate(),
    "all_gather": lambda s: s.all_gather(),
    "all_reduce": lambda s: s.all_reduce(lambda a, b: min(a, b)),
    "behind steps": lambda s: s.replicate().map(lambda pair: pair).filter(bool).map_partitions(list),
    "behind direct": lambda s: s.replicate().direct().pipe(),
    "kept": lambda s: s.replicate().lazy_cache().map_values(abs),
}


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_whole_on_every_worker_never_counts_once_per_worker(run_workers, workers):
    """Also on one worker, where the answer would be right: it must not depend on how many there are."""

    def job(env):
        some = TSetContext(env).parallelize([(1, 2), (3, 4)], 2)
        for form, make in WHOLE.items():
            whole = make(some)
            for name, use in ONCE.items():
                with pytest.raises(UsageError, match=rf"{name.split()[0]}: .* is whole on every worker") as caught:
                    use(whole, some)
                assert "before replicate()" in caught.value.remedy, (form, name)

    run_workers(workers, job)


def test_what_is_whole_on_every_worker_is_there_for_functions_and_loops(run_workers, executor):
    def job(env):
        context = TSetContext(env)
        numbers = context.parallelize([1, 2, 3], 3)
        whole = numbers.replicate().direct().map(abs).cache()
        seen = []
        whole.for_each(seen.append)
        with context.evaluating(whole.map(lambda x: x + 1), into=whole) as step:
            step()
        added = numbers.map(lambda x, context: x + sum(context.input("all"))).add_input("all", whole)
        return sorted(seen), sorted(whole.local()), added.collect(), whole.mean(), whole.min(), whole.max()

    assert run_workers(2, job, executor=executor) == [([1, 2, 3], [2, 3, 4], [10, 11, 12], 3.0, 2, 4)] * 2
