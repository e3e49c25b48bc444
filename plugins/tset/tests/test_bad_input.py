"""Wrong use and hostile data: a clear error that names the step, or the right answer; never a hang."""

from __future__ import annotations

import sys
import threading

import pyarrow
import pytest

from twister2.spec.errors import (
    GraphError,
    KeyHashError,
    OperatorError,
    ResultError,
    StepMismatchError,
    Twister2Error,
    UsageError,
    UserCodeError,
)
from twister2_tset import TSetContext


@pytest.mark.parametrize("executor", ["inline", "threads"])
def test_a_function_that_raises_at_record_a_million_in_one_worker_only(run_workers, executor):
    def numbers(partition):
        return range(1_000_500) if partition == 1 else range(10)

    def fail(x):
        if x == 999_999:
            raise ValueError("seven is missing")
        return x

    with pytest.raises(UserCodeError) as caught:
        run_workers(2, lambda env: TSetContext(env).source(numbers, 2).map(fail).count(), executor=executor)
    error = caught.value
    assert "map (test_bad_input.py:" in error.what
    assert "seven is missing" in error.what
    assert (error.details["record"], error.details["record_value"]) == (1_000_000, "999999")
    assert (error.details["task"], error.details["worker"]) == (1, 1)
    assert "in fail" in error.details["traceback"]


@pytest.mark.parametrize("step", ["map", "filter", "flat_map", "map_to_tuple", "for_each"])
def test_every_step_names_itself_and_the_record(run_workers, step):
    def fail(record):
        if record == "b":
            raise KeyError("no b")
        return (record, 1)

    def job(env):
        changed = getattr(TSetContext(env).parallelize(["a", "b", "c"], 1).map(str), step)(fail)
        return changed and changed.count()

    with pytest.raises(UserCodeError) as caught:
        run_workers(2, job)
    assert f"{step} (test_bad_input.py:" in caught.value.what
    assert "record 2 ('b')" in caught.value.what


def test_empty_sets(run_workers):
    def job(env):
        empty = TSetContext(env).parallelize([], 3)
        pairs = empty.map_to_tuple(lambda x: (x, x)).keyed_reduce("sum").collect()
        assert empty.reduce("sum", initial=None) is None
        return (empty.count(), empty.collect(), empty.gather(), empty.top(3), pairs, empty.sort().collect())

    assert run_workers(2, job) == [(0, [], [], [], [], [])] * 2


def test_reduce_of_nothing_says_so_on_every_worker(run_workers):
    def job(env):
        with pytest.raises(GraphError, match="no records"):
            TSetContext(env).parallelize([], 2).reduce("sum")
        return env.worker_id

    assert run_workers(2, job) == [0, 1]


def test_more_partitions_than_records_and_one_giant_line(run_workers):
    giant = "x" * 3_000_000 + " y" * 10

    def job(env):
        counts = TSetContext(env).parallelize([giant], 50).flat_map(str.split).count_by_value()
        return sorted((len(word), count) for word, count in counts.collect())

    assert run_workers(3, job) == [[(1, 10), (3_000_000, 1)]] * 3


def test_functions_are_not_pickled(run_workers):
    lock = threading.Lock()

    def locked(x):
        with lock:
            return x + 1

    assert run_workers(2, lambda env: TSetContext(env).parallelize([1, 2]).map(locked).collect()) == [[2, 3]] * 2


@pytest.mark.parametrize(
    ("job", "error", "text"),
    [
        (
            lambda s: s.map(lambda x: [x]).count_by_value().count(),
            KeyHashError,
            r"\[\d\] cannot be a key.*count_by_value",
        ),
        (lambda s: s.map_to_tuple(lambda x: ({}, x)).keyed_reduce("sum").count(), KeyHashError, "cannot be a key"),
        (lambda s: s.map_to_tuple(lambda x: x).count(), OperatorError, r"map_to_tuple returned \d, which"),
        (lambda s: s.map_to_tuple(lambda x: (x, x, x)).count(), OperatorError, "no .key, value. pair"),
        (lambda s: s.keyed_reduce("sum").count(), OperatorError, "pairs"),
        (lambda s: s.flat_map(lambda x: x).count(), UserCodeError, "flat_map .*not iterable"),
        (lambda s: s.map(lambda x: x if x < 3 else "a").sort().collect(), Twister2Error, "sort"),
        (lambda s: s.map(lambda x: x if x < 3 else "a").top(2), OperatorError, "top: two records cannot be compared"),
        (lambda s: s.collect(limit=3), ResultError, "more than 3 records"),
        (lambda s: s.gather(limit=0), ResultError, "more than 0 records"),
        (lambda s: s.map(3), UsageError, "map: function is 3"),
        (lambda s: s.filter(None), UsageError, "filter: predicate is None"),
        (lambda s: s.top(-1), UsageError, "top: n is -1"),
        (lambda s: s.top(True), UsageError, "top: n is True"),
        (lambda s: s.sort(partitions=0), UsageError, "sort: partitions is 0"),
        (lambda s: s.count_by_value(partitions=1.5), UsageError, "partitions is 1.5"),
        (lambda s: s.map_batches(len, form="pandas"), UsageError, "form is 'pandas'"),
        (lambda s: s.keyed_reduce("median").count(), Twister2Error, "median"),
        (lambda s: list(s), UsageError, "cannot be walked over"),
        (lambda s: s.context.parallelize("text"), UsageError, "the data is 'text'"),
        (lambda s: s.context.parallelize(5), UsageError, "the data is 5"),
        (lambda s: s.context.parallelize(OldFrame({"a": [1]})), UsageError, "an OldFrame, cannot be taken as columns"),
        (lambda s: s.context.parallelize(Frame({"a": [1, "b"]})), UsageError, "a Frame, cannot be taken as columns"),
        (lambda s: s.group_by([]), UsageError, "group_by: nothing is named"),
        (lambda s: s.group_by(["n", 3]), UsageError, "group_by: 3 is no name"),
        (lambda s: s.key_by([]), UsageError, "key_by: nothing is named"),
        (lambda s: s.sort(["n", None]), UsageError, "sort: None is no name"),
        (lambda s: s.select([]), UsageError, "select: nothing is named"),
        (lambda s: s.group_by("n").agg("count"), UsageError, "agg: 'count' has no name"),
        (lambda s: s.context.read_text([]), UsageError, "no input"),
        (lambda s: s.context.read_text([3]), UsageError, "3 is no path"),
        (lambda s: s.context.source(lambda index: 5).count(), UserCodeError, "not iterable"),
    ],
)
def test_wrong_use_is_named(run_workers, job, error, text):
    with pytest.raises(error, match=text):
        run_workers(2, lambda env: job(TSetContext(env).parallelize([1, 2, 3, 4])))


def test_a_set_of_a_closed_environment_is_refused(run_workers):
    kept = []
    run_workers(1, lambda env: kept.append(TSetContext(env).parallelize([1])))
    with pytest.raises(UsageError, match="environment of this set is closed"):
        kept[0].count()


@pytest.mark.parametrize(
    "use",
    [
        lambda kept, step: kept.count(),
        lambda kept, step: kept.map(str).collect(),
        lambda kept, step: kept.local(),
        lambda kept, step: kept.map(str).cache(),
        lambda kept, step: kept.context.eval_and_update(kept.map(abs), kept),
        lambda kept, step: kept.context.evaluating(kept),
        lambda kept, step: step(),
    ],
    ids=["count", "collect", "local", "cache", "eval_and_update", "evaluating", "prepared"],
)
@pytest.mark.parametrize("keep", ["cache", "persist", "lazy_cache"])
def test_a_kept_set_of_a_closed_environment_is_refused(run_workers, keep, use):
    def job(env):
        kept = getattr(TSetContext(env).parallelize([1, 2]), keep)()
        step = kept.context.evaluating(kept.map(abs), kept)
        step()
        assert sorted(kept.local()) == [1, 2]
        return kept, step

    ((kept, step),) = run_workers(1, job)
    with pytest.raises(UsageError, match="the environment of this set is closed") as caught:
        use(kept, step)
    assert "drop" not in str(caught.value)
    kept.drop()


class OldFrame:
    """A data frame: to walk over it gives the names of its columns."""

    def __init__(self, columns):
        self.columns = columns

    def __iter__(self):
        return iter(self.columns)

    def to_dict(self):
        return self.columns


class Frame(OldFrame):
    """One that hands over its columns."""

    def __arrow_c_stream__(self, requested_schema=None):
        return pyarrow.table(self.columns).__arrow_c_stream__(requested_schema)


def test_a_data_frame_is_a_table(run_workers):
    def job(env):
        rows = TSetContext(env).parallelize(Frame({"a": [1, 2, 3], "b": ["x", "y", "x"]}), 2)
        return rows.collect()[0], rows.group_by("b").sum("a").sort().collect()

    assert run_workers(2, job) == [({"a": 1, "b": "x"}, [("x", 4), ("y", 2)])] * 2


class RangeIndex:
    """As that of pandas, which such a frame keeps to itself."""

    def __init__(self, name):
        self.name = name


class Counted(Frame):
    """A frame whose index is a range with a name."""

    index = RangeIndex("n")

    def reset_index(self):
        return Frame({"n": [5, 6, 7], **self.columns})


def test_an_index_that_has_a_name_is_a_column(run_workers):
    records = run_workers(1, lambda env: TSetContext(env).parallelize(Counted({"a": [1, 2, 3]})).collect())
    assert records == [[{"n": 5, "a": 1}, {"n": 6, "a": 2}, {"n": 7, "a": 3}]]


@pytest.mark.parametrize("columns", [False, True])
def test_lists_of_names_stand_for_their_names(run_workers, columns):
    table = pyarrow.table({"a": [2, 1, 2, 1], "b": ["y", "x", "x", "x"], "n": [1, 2, 3, 4]})

    def job(env):
        rows = TSetContext(env).parallelize(table if columns else table.to_pylist(), 2)
        totals = rows.group_by(["a", "b"]).sum("n").sort()
        assert totals.collect() == rows.group_by("a", "b").sum("n").sort().collect()
        assert rows.group_by(["a"], "b").agg(n=("n", "sum")).count() == 3
        ordered = rows.sort(["b", "a"], key=["n"], descending=[False, True, True]).select(["n"]).collect()
        assert ordered == rows.sort("b", "a", "n", descending=[False, True, True]).select("n").collect()
        return totals.collect(), [row["n"] for row in ordered], rows.key_by(["a", "b"]).keys().first()

    expected = [((1, "x"), 6), ((2, "x"), 3), ((2, "y"), 1)], [3, 4, 2, 1], (2, "y")
    assert run_workers(2, job) == [expected] * 2


def test_an_input_that_was_not_given_is_named(run_workers):
    def job(env):
        numbers = TSetContext(env).parallelize([1, 2])
        asked = numbers.map(lambda x, context: context.input("c")).add_input("b", numbers.cache())
        asked.count()

    with pytest.raises(UsageError, match=r"map .test_bad_input.py:\d+. has no input 'c'") as caught:
        run_workers(2, job)
    assert caught.value.why == "it was given 'b'"


def test_a_dict_gives_its_pairs(run_workers):
    def job(env):
        counts = TSetContext(env).parallelize({"to": 2, "be": 2, "or": 1}, 2)
        assert "3 pairs of a dict" in repr(counts)
        return sorted(counts.collect()), counts.map_values(lambda n: n * 2).filter(
            lambda pair: pair[0] == "or"
        ).collect()

    assert run_workers(2, job) == [([("be", 2), ("or", 1), ("to", 2)], [("or", 2)])] * 2


def test_workers_with_other_lists_or_other_actions_are_told(run_workers):
    with pytest.raises(StepMismatchError):
        run_workers(2, lambda env: TSetContext(env).parallelize(range(env.worker_id + 3), 2).count())
    with pytest.raises(StepMismatchError):
        run_workers(2, lambda env: [TSetContext(env).parallelize([1]).count, lambda: env.barrier("b")][env.worker_id]())


def test_memory_of_a_cached_set_is_given_back(run_workers):
    def job(env):
        cached = TSetContext(env).parallelize(range(10_000)).cache()
        held = env.memory.use().reserved
        assert cached.count() == 10_000
        return held > 0, env.memory

    for held, memory in run_workers(2, job):
        assert held
        assert memory.use().reserved == 0


@pytest.mark.parametrize("at", [0, 3, 9])
@pytest.mark.parametrize("before", ["none", "fused"])
@pytest.mark.parametrize("step", ["map", "filter", "flat_map", "map_to_tuple", "for_each"])
def test_a_stop_iteration_of_a_function_is_an_error_at_its_record(run_workers, step, before, at):
    def first_of_nothing(record):
        return next(iter([])) if record == at else (record, 1)

    def job(env):
        numbers = TSetContext(env).parallelize(list(range(10)), 1)
        numbers = numbers.map(int).filter(lambda _: True) if before == "fused" else numbers
        changed = getattr(numbers, step)(first_of_nothing)
        return changed and changed.count()

    with pytest.raises(UserCodeError) as caught:
        run_workers(1, job)
    assert "StopIteration" in caught.value.what
    assert f"record {at + 1} ({at})" in caught.value.what


def test_a_stop_iteration_of_something_that_is_no_function(run_workers):
    empty = iter([])
    with pytest.raises(UserCodeError, match=r"record 1 .*StopIteration"):
        run_workers(1, lambda env: TSetContext(env).parallelize([empty, empty], 1).map(next).collect())


@pytest.mark.parametrize(
    "action",
    [
        lambda numbers, fail: numbers.sort(key=fail).collect(),
        lambda numbers, fail: numbers.top(3, key=fail),
        lambda numbers, fail: numbers.reduce(lambda one, other: fail(other)),
        lambda numbers, fail: numbers.map(lambda x: (x % 2, x)).keyed_reduce(lambda one, other: fail(other)).collect(),
        lambda numbers, fail: numbers.map_batches(lambda batch: [fail(record) for record in batch]).collect(),
        lambda numbers, fail: numbers.context.source(lambda index: range(fail(index)), 8).collect(),
    ],
    ids=["sort", "top", "reduce", "keyed_reduce", "map_batches", "source"],
)
def test_a_stop_iteration_of_other_functions_is_an_error(run_workers, action):
    def fail(record):
        return next(iter([])) if record == 7 else record

    with pytest.raises(Twister2Error) as caught:
        run_workers(2, lambda env: action(TSetContext(env).parallelize(list(range(10)), 2), fail))
    assert "StopIteration" in str(caught.value)


@pytest.mark.parametrize("returned", [None, 7])
def test_a_function_of_flat_map_that_returns_no_iterable_is_named(run_workers, returned):
    def no_items(record):
        return [record] if record < 4 else returned

    with pytest.raises(UserCodeError) as caught:
        run_workers(1, lambda env: TSetContext(env).parallelize(list(range(10)), 1).flat_map(no_items).count())
    error = caught.value
    assert f"returned {returned}" in error.what
    assert "must return an iterable" in error.why
    assert "test_bad_input.py:" in error.where
    assert "no_items, record 5 (4), vertex 'flat_map (test_bad_input.py:" in error.where
    assert "traceback" not in error.details


def test_a_type_error_of_the_items_themselves_stays_what_it_is(run_workers):
    def items(record):
        yield record
        raise TypeError("of the generator")

    with pytest.raises(UserCodeError, match="TypeError: of the generator"):
        run_workers(1, lambda env: TSetContext(env).parallelize([1], 1).flat_map(items).count())


@pytest.mark.parametrize("executor", ["inline", "threads"])
@pytest.mark.parametrize("code", [0, 3, None])
def test_a_function_that_exits_is_an_error_of_its_record(run_workers, executor, code):
    def leave(record):
        return record if record < 4 else sys.exit(code)

    with pytest.raises(UserCodeError) as caught:
        run_workers(1, lambda env: TSetContext(env).parallelize(range(10), 1).map(leave).count(), executor=executor)
    assert f"record 5 (4): sys.exit({code!r})" in caught.value.what


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("step", ["sort", "top"])
def test_records_without_an_order_are_told_how_to_get_one(run_workers, step, n):
    def job(env):
        mixed = TSetContext(env).parallelize([1, "a", 2, "b"], n)
        return mixed.sort().collect() if step == "sort" else mixed.top(2)

    with pytest.raises(OperatorError) as caught:
        run_workers(n, job)
    assert "two records cannot be compared: '<' not supported" in caught.value.what
    assert "key=str" in caught.value.remedy
    assert "task -1" not in str(caught.value)


@pytest.mark.parametrize("n", [1, 3])
def test_a_key_function_of_sort_that_raises_is_told_with_its_record(run_workers, n):
    def key(record):
        return record["absent"] if record == "seven" else record

    with pytest.raises(UserCodeError) as caught:
        run_workers(n, lambda env: TSetContext(env).parallelize(["one", "seven", "two"], n).sort(key=key).collect())
    error = caught.value
    assert "key function" in error.what
    assert "TypeError" in error.what
    assert error.why == "it was given 'seven'"
    assert_only_frames_of_the_user(error, "in key")


@pytest.mark.parametrize("reducer", ["sum", "max"])
def test_a_reducer_by_name_that_does_not_fit_shows_no_frames_of_ours(run_workers, reducer):
    pairs = [("k", 1), ("k", "one"), ("k", 2)]
    with pytest.raises(UserCodeError, match="TypeError") as caught:
        run_workers(1, lambda env: TSetContext(env).parallelize(pairs, 1).keyed_reduce(reducer).collect())
    assert_only_frames_of_the_user(caught.value, "TypeError")


@pytest.mark.parametrize("step", ["map", "filter", "for_each", "map_batches"])
def test_tracebacks_show_the_frames_of_the_user(run_workers, step):
    def fail(record):
        raise ValueError("seven is missing")

    def job(env):
        changed = getattr(TSetContext(env).parallelize([1], 1), step)(fail)
        return changed and changed.count()

    with pytest.raises(UserCodeError) as caught:
        run_workers(1, job)
    assert_only_frames_of_the_user(caught.value, "in fail")


def assert_only_frames_of_the_user(error, expected):
    text = error.details["traceback"]
    assert expected in text
    assert "/src/twister2" not in text
