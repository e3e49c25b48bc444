"""Functions that return the wrong thing, sets without records, sets that are gone: each error names step and line."""

from __future__ import annotations

import itertools

import numpy as np
import pyarrow as pa
import pytest

from twister2.spec.errors import GraphError, OperatorError, ResultError, Twister2Error, UsageError, UserCodeError
from twister2_testkit.graphs import EXECUTORS
from twister2_tset import TSetContext

pytestmark = pytest.mark.timeout(120)
HERE = "test_bad_input_values.py:"


@pytest.fixture(params=EXECUTORS)
def executor(request):
    return request.param


def forgets(one, other):
    one + other


def text(one, other):
    return f"{one}{other}"


# -- functions that return None or another type ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "job"),
    [
        ("reduce", lambda s, f: s.reduce(f)),
        ("reduce", lambda s, f: s.group_by(lambda x: 1).reduce(f).collect()),
        ("all_reduce", lambda s, f: s.all_reduce(f).collect()),
        ("keyed_reduce", lambda s, f: s.key_by(lambda x: 1).keyed_reduce(f).collect()),
        ("aggregate", lambda s, f: s.aggregate(0, lambda a, x: a + x, f)),
        ("aggregate", lambda s, f: s.group_by(lambda x: 1).aggregate(0, lambda a, x: a + x, f).collect()),
        ("keyed_aggregate", lambda s, f: s.key_by(lambda x: 1).keyed_aggregate(0, lambda a, x: a + x, f).collect()),
    ],
)
@pytest.mark.parametrize("reducer", [forgets, text])
def test_a_reducer_that_returns_something_else_is_named_with_its_step(run_workers, executor, step, job, reducer):
    with pytest.raises(OperatorError) as caught:
        run_workers(2, lambda env: job(TSetContext(env).parallelize(range(1, 9), 4), reducer), executor=executor)
    error = caught.value
    assert f"the reducer of {step} returned {'None' if reducer is forgets else repr(text(1, 2))[0]}" in error.what
    assert HERE in error.where
    assert reducer.__name__ in error.where
    assert "aggregate(zero, add, merge)" in error.remedy


@pytest.mark.parametrize(
    "job",
    [
        lambda s: s.aggregate(0, forgets),
        lambda s: s.aggregate(0, forgets, lambda a, b: a),
        lambda s: s.group_by(lambda x: 1).aggregate(0, forgets, lambda a, b: a).collect(),
        lambda s: s.key_by(lambda x: 1).keyed_aggregate(0, forgets, lambda a, b: a).collect(),
    ],
)
def test_a_function_that_adds_and_returns_nothing_is_no_answer(run_workers, executor, job):
    with pytest.raises(OperatorError, match=r"the function add of .*aggregate.* returned None") as caught:
        run_workers(2, lambda env: job(TSetContext(env).parallelize([1, 2, 3], 2)), executor=executor)
    assert HERE in caught.value.where


def test_a_fold_that_begins_with_none_may_stay_none(everywhere):
    def job(context):
        numbers = context.parallelize([3, 9, 4], 2)
        found = numbers.aggregate(None, lambda best, x: x if x > 8 else best, lambda a, b: a if b is None else b)
        nothing = numbers.aggregate(None, lambda best, x: best, lambda a, b: a)
        return found, nothing

    assert everywhere(2, job) == (9, None)


def test_a_fold_that_begins_with_none_may_become_none_again(everywhere):
    def job(context):
        numbers = context.parallelize([3, 4, 9, 6, 5], 1)
        kept = numbers.aggregate(None, lambda last, x: x if x % 2 else None, lambda a, b: b)
        grouped = numbers.group_by(lambda x: x > 5).aggregate(None, lambda last, x: x if x % 2 else None, max)
        return kept, sorted(grouped.collect(), key=str)

    assert everywhere(1, job) == (5, [(False, 5), (True, None)])


@pytest.mark.parametrize("n", [1, 3])
def test_a_function_of_batches_may_return_what_it_was_given(run_workers, tmp_path, n):
    (tmp_path / "lines.txt").write_text("one\ntwo\nthree\n")

    def job(env):
        context = TSetContext(env)
        sets = [context.parallelize(range(7), 3), context.parallelize((1, 2, 3), 2)]
        sets += [context.parallelize(np.arange(5.0), 2), context.parallelize(pa.table({"a": [1, 2]}), 2)]
        lines = context.read_text(tmp_path / "lines.txt").map_batches(lambda batch: batch)
        cut = context.parallelize(range(7), 1).map_batches(lambda batch: batch[:2])
        return [one.map_batches(lambda batch: batch).count() for one in sets], lines.collect(), cut.collect()

    assert run_workers(n, job) == [([7, 3, 5, 2], ["one", "two", "three"], [0, 1])] * n


# -- sets without records ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [[], np.zeros(0), pa.table({"a": pa.array([], pa.int64())})])
@pytest.mark.parametrize("workers", [1, 3])
def test_what_nothing_does_not_have_is_told_on_every_worker(run_workers, executor, data, workers):
    asked = {
        "mean": lambda s: s.mean(),
        "variance": lambda s: s.variance(),
        "min": lambda s: s.min(),
        "max": lambda s: s.max(key=lambda x: x),
        "first": lambda s: s.first(),
        "reduce": lambda s: s.reduce(lambda a, b: a),
    }

    def job(env):
        nothing, told = TSetContext(env).parallelize(data, 4), []
        for step, ask in asked.items():
            with pytest.raises(GraphError, match=f"{step}: the set has no records") as caught:
                ask(nothing)
            assert f"{step} ({HERE}" in caught.value.where
            assert f"of parallelize ({HERE}" in caught.value.where
            told.append(step)
        return told

    assert run_workers(workers, job, executor=executor) == [list(asked)] * workers


def test_records_without_values_are_told_from_no_records(run_workers):
    table = pa.table({"a": pa.array([None, None], pa.int64())})

    def job(env):
        missing = TSetContext(env).parallelize(table, 2)
        assert (missing.sum("a"), missing.count()) == (0, 2)
        missing.mean("a")

    with pytest.raises(GraphError, match="no records with a value of a"):
        run_workers(2, job)


@pytest.mark.parametrize("workers", [1, 2])
def test_columns_without_rows(run_workers, executor, workers):
    table = pa.table({"a": pa.array([], pa.int64()), "s": pa.array([], pa.string())})

    def job(env):
        context = TSetContext(env)
        rows, array = context.parallelize(table, 3), context.parallelize(np.zeros(0), 3)
        steps = [
            rows, rows.sort("a"), rows.distinct("a"), rows.group_by("s").sum("a"), rows.where("a", ">", 1).select("s"),
            rows.group_by("s").agg(total=("a", "sum")), rows.key_by("a").join(rows.key_by("a"), "full"), rows.zip(rows),
            rows.zip_with_index(), rows.cross(rows), rows.union(rows), rows.sample(0.5), rows.partition(key="a"),
            rows.partition("range", key="a"), rows.cache(), rows.persist(), rows.replicate(), rows.all_gather(),
            array, array.sort(descending=True), array.distinct(), array.map_batches(np.sqrt, form="numpy"),
            array.zip(rows, strict=True), array.all_reduce("sum"),
        ]  # fmt: skip
        assert [step.collect() for step in steps] == [[]] * len(steps)
        values = rows.sum("a"), rows.top(2, key="a"), rows.take(2), array.sum(), array.reduce("sum", initial=3)
        assert values == (0, [], [], 0, 3)
        assert rows.collect(form="arrow").schema.names == ["a", "s"]
        return True

    assert run_workers(workers, job, executor=executor) == [True] * workers


@pytest.mark.parametrize("suffix", ["txt", "csv", "jsonl", "json", "parquet", "arrow"])
@pytest.mark.parametrize("what", ["list", "filtered", "table"])
def test_nothing_is_saved_and_loaded(run_workers, tmp_path, suffix, what):
    def job(env):
        context = TSetContext(env)
        if what == "table":
            nothing = context.parallelize(pa.table({"a": pa.array([], pa.int64())}), 2)
        else:
            nothing = context.parallelize([] if what == "list" else [{"a": 1}, {"a": 2}], 3).filter(lambda x: False)
        nothing.save(tmp_path / f"none.{suffix}")
        loaded = context.load(tmp_path / f"none.{suffix}")
        return loaded.count(), loaded.collect()

    assert run_workers(2, job) == [(0, [])] * 2
    assert (tmp_path / f"none.{suffix}" / "_SUCCESS").exists()


def test_an_evaluation_of_nothing(everywhere):
    def job(context):
        kept = context.parallelize([], 3).cache()
        for _ in range(3):
            context.eval_and_update(kept.map(abs).filter(bool), kept)
        return kept.count(), kept.collect(), kept.union(context.parallelize([1])).collect()

    assert everywhere(2, job) == (0, [], [1])


# -- keys --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["inner", "left", "right", "full"])
def test_keys_of_different_types_meet_when_they_are_equal(everywhere, how):
    left = [(1, "int"), ("1", "text"), (None, "none"), (2.0, "float"), ((1, "a"), "tuple"), (b"1", "bytes")]
    right = [(True, "bool"), (b"1", "bytes"), (2, "int"), (None, "none"), ((1.0, "a"), "tuple"), ("2", "text")]

    def job(context):
        found = context.parallelize(left, 3).join(context.parallelize(right, 2), how).collect()
        return sorted(map(repr, (pair for _, pair in found)))

    both = [("int", "bool"), ("none", "none"), ("float", "int"), ("tuple", "tuple"), ("bytes", "bytes")]
    expected = both + [("text", None)] * (how in ("left", "full")) + [(None, "text")] * (how in ("right", "full"))
    assert everywhere(3, job) == sorted(map(repr, expected))


@pytest.mark.parametrize("other", [["1", "2"], [[1], [2]], [{"a": 1}]])
def test_keys_that_cannot_be_sorted_or_hashed_in_a_join(run_workers, executor, other):
    def job(env):
        context = TSetContext(env)
        right = context.parallelize([(key, 0) for key in other], 2)
        return context.parallelize([(1, 0), (2, 0)], 2).join(right, algorithm="sort").collect()

    with pytest.raises(Twister2Error, match="join") as caught:
        run_workers(2, job, executor=executor)
    assert HERE in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize(
    "job",
    [
        lambda s: s.sort(lambda x: x if x % 2 else str(x)).collect(),
        lambda s: s.map(complex).sort().collect(),
        lambda s: s.map(lambda x: {"a": x}).sort().collect(),
        lambda s: s.map(lambda x: {"a": None, "b": x if x % 2 else str(x)}).sort("a", "b").collect(),
        lambda s: s.partition("range", key=lambda x: x if x % 2 else str(x)).collect(),
        lambda s: s.key_by(lambda x: x if x % 2 else str(x)).keyed_partition("range").collect(),
        lambda s: s.key_by(lambda x: x if x % 2 else str(x)).keyed_gather(order=True, partitions=1).collect(),
        lambda s: s.min(lambda x: x if x % 2 else str(x)),
        lambda s: s.group_by(lambda x: 1).max(lambda x: x if x % 2 else str(x)).collect(),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_what_has_no_order_is_told_with_its_line(run_workers, executor, job, workers):
    data = [1, 2, 3, 4] if workers == 1 else [1, 3, 2, 4]  # on two workers only what they send each other is unlike

    def program(env):
        records = job(TSetContext(env).parallelize(data, 2))
        assert records is None, "two strings or two numbers each: nothing to compare"

    with pytest.raises(OperatorError, match="'<' not supported") as caught:
        run_workers(workers, program, executor=executor)
    assert HERE in str(caught.value)
    assert caught.value.remedy


# -- sets that are gone ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [
        lambda kept, later: kept.count(),
        lambda kept, later: later.collect(),
        lambda kept, later: kept.union(kept).collect(),
        lambda kept, later: kept.lazy_cache().count(),
        lambda kept, later: later.cache(),
        lambda kept, later: list(kept.local()),
        lambda kept, later: kept.context.eval(kept),
        lambda kept, later: kept.context.eval_and_update(later, kept),
        lambda kept, later: kept.context.evaluating(kept.context.parallelize([1]), kept),
        lambda kept, later: later.explain(),
        lambda kept, later: later.for_each(print),
        lambda kept, later: kept.context.parallelize([1]).map(lambda x: x).add_input("kept", kept).count(),
    ],
)
@pytest.mark.parametrize("keep", ["cache", "persist", "lazy_cache"])
def test_a_set_that_was_dropped_says_so_wherever_it_is_used(run_workers, use, keep):
    def job(env):
        kept = getattr(TSetContext(env).parallelize([1, 2, 3], 2), keep)()
        later = kept.map(abs)
        kept.drop()
        kept.drop()
        with pytest.raises(UsageError, match=rf"{keep} \({HERE}\d+\): the set was dropped") as caught:
            use(kept, later)
        assert caught.value.where.startswith(HERE)
        return env.memory.use().reserved

    assert run_workers(2, job) == [0, 0]


def test_a_loop_whose_set_was_dropped(run_workers):
    def job(env):
        context = TSetContext(env)
        kept = context.parallelize([1, 2, 3], 2).cache()
        with context.evaluating(kept.map(lambda x: x + 1), kept) as step:
            step()
            kept.drop()
            with pytest.raises(UsageError, match="the set was dropped"):
                step()
        other = context.parallelize([1, 2, 3], 2).cache()
        with context.evaluating(other.map(abs), other) as step:
            step()
        with pytest.raises(UsageError, match="is closed"):
            step()
        return True

    assert run_workers(2, job) == [True] * 2


def test_local_records_of_a_set_that_was_not_made(run_workers):
    def job(env):
        lazy = TSetContext(env).parallelize([1, 2, 3], 2).lazy_cache()
        with pytest.raises(UsageError, match="its records were not made yet") as caught:
            lazy.local()
        assert caught.value.where.startswith(HERE)
        lazy.count()
        return list(lazy.local())

    assert [x for part in run_workers(2, job) for x in part] == [1, 2, 3]


# -- guards ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("step", ["collect", "gather", "table", "bytes"])
def test_more_than_the_guard_is_refused_before_it_is_sent(run_workers, executor, workers, step):
    def job(env):
        context = TSetContext(env)
        made = []
        records = context.source(lambda partition: (made.append(x) or "y" * 1000 for x in range(400_000)), workers)
        if step == "table":
            return context.parallelize(pa.table({"a": range(500)}), 3).collect(limit=499, form="arrow")
        if step == "bytes":
            return records.collect(limit_mb=1)
        try:
            return getattr(records, step)(limit=100)
        finally:
            assert len(made) < 200_000

    with pytest.raises(ResultError, match=r"more than (100|499) records|more than 1 MiB") as caught:
        run_workers(workers, job, executor=executor)
    assert HERE in str(caught.value)
    assert "limit" in caught.value.remedy


# -- one worker only ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["eval", "evaluating", "actions"])
def test_an_error_of_one_worker_in_a_loop_is_the_error_of_all(run_workers, executor, kind):
    def job(env):
        context = TSetContext(env)
        kept = context.parallelize(range(9), 3).cache()
        turns = itertools.count()  # workers that are ahead go on until they hear of it
        turn = next(turns)

        def advance(x):
            return 1 // 0 if turn == 5 and env.worker_id == 1 else x + 1

        changed = kept.map(advance)
        step = context.evaluating(changed, kept) if kind == "evaluating" else None
        while True:
            if kind == "actions":
                changed.count()
            elif step is not None:
                step()
            else:
                context.eval_and_update(changed, kept)
            turn = next(turns)

    with pytest.raises(UserCodeError, match="ZeroDivisionError") as caught:
        run_workers(3, job, executor=executor)
    assert caught.value.details["worker"] == 1
    assert f"map ({HERE}" in caught.value.what
    assert "in advance" in caught.value.details["traceback"]


@pytest.mark.parametrize("raised", [ValueError("seven is missing"), StopIteration(), SystemExit(3)], ids=repr)
def test_an_error_in_the_pool_of_threads_is_told_as_any(run_workers, executor, raised):
    def fail(batch):
        if 7 in batch:
            raise raised
        return batch

    def job(env):
        records = TSetContext(env).parallelize(range(10), 4)
        for _ in range(3):
            records.map_batches(lambda batch: batch, releases_gil=True).count()
        return records.map_batches(fail, form="list", releases_gil=True).map(str).sort().collect()

    with pytest.raises(UserCodeError) as caught:
        run_workers(2, job, executor=executor)
    assert f"map_batches ({HERE}" in caught.value.what
    assert "in fail" in caught.value.details["traceback"]
    assert caught.value.details["worker"] == 1
