"""Sets that are kept, and loops over them: the same answers as the same loop over lists."""

from __future__ import annotations

import itertools
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twister2.spec.errors import UsageError, UserCodeError
from twister2_testkit.graphs import EXECUTORS
from twister2_tset import TSetContext

pytestmark = pytest.mark.timeout(120)

SIZES = st.tuples(st.integers(1, 3), st.integers(1, 4))
QUICK = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=EXECUTORS)
def executor(request):
    return request.param


def add(a, b):
    return a[0] + b[0], a[1] + b[1]


def nearest(x, context):
    centres = context.input("centres")
    assert context.input("centres") is centres, "one list for all records of a run"
    return min(range(len(centres)), key=lambda k: (abs(centres[k] - x), k)), (x, 1)


def plain_kmeans(points, centres, turns):
    for _ in range(turns):
        sums = {}
        for x in points:
            k = min(range(len(centres)), key=lambda k: (abs(centres[k] - x), k))
            sums[k] = add(sums.get(k, (0, 0)), (x, 1))
        centres = sorted(total // count for total, count in sums.values())
    return centres


@QUICK
@given(points=st.lists(st.integers(-1000, 1000), min_size=1, max_size=40), sizes=SIZES, turns=st.integers(0, 6))
def test_kmeans_by_evaluations(run_workers, executor, points, sizes, turns):
    start = sorted({points[0], 0, 500})

    def program(env):
        context = TSetContext(env, partitions=sizes[1])
        data = context.parallelize(points).cache()
        centres = context.parallelize([start], 1).flat_map(lambda all_: all_).replicate().cache()
        sums = data.map_to_tuple(nearest).add_input("centres", centres).keyed_reduce(add)
        moved = sums.map(lambda pair: [pair[1][0] // pair[1][1]]).all_reduce(lambda a, b: sorted(a + b))
        with context.evaluating(moved.flat_map(sorted), into=centres) as step:
            for _ in range(turns):
                step()
        return list(centres.local())

    results = run_workers(sizes[0], program, executor=executor)
    assert results == [plain_kmeans(points, start, turns)] * sizes[0]


@QUICK
@given(
    data=st.lists(st.integers(0, 50), max_size=30), sizes=SIZES, loops=st.tuples(st.integers(0, 3), st.integers(0, 3))
)
def test_nested_loops_of_eval_and_update(run_workers, executor, data, sizes, loops):
    def program(env):
        context = TSetContext(env, partitions=sizes[1])
        outer = context.parallelize(data).cache()
        inner = outer.map(lambda x: x).cache()
        grown = inner.map(lambda x: x + 1)
        doubled = inner.map(lambda x: 2 * x)
        for _ in range(loops[0]):
            for _ in range(loops[1]):
                context.eval_and_update(grown, inner)
            context.eval_and_update(doubled, outer)
            context.run_and_update(outer.map(lambda x: x), inner)
        context.finish_eval(grown)
        context.finish_eval(grown)
        return outer.collect()

    expected = data
    for _ in range(loops[0]):
        expected = [2 * (x + loops[1]) for x in expected]
    for result in run_workers(sizes[0], program, executor=executor):
        assert result == expected


def test_nothing_is_planned_or_connected_again_in_a_loop(run_workers, executor):
    from twister2.worker import execute
    from twister2.worker.network.ports import ChannelPort

    planned = mock.Mock(wraps=execute.compile_graph)

    def program(env):
        context = TSetContext(env)
        numbers = context.parallelize(range(100)).cache()
        total = context.parallelize([0], 1).replicate().cache()
        summed = numbers.map(lambda x, context: x + context.input("total")[0]).add_input("total", total)
        with context.evaluating(summed.all_reduce("sum"), into=total) as step:
            step()
            env.barrier()
            before = planned.call_count
            for _ in range(20):
                step()
            env.barrier()
            assert planned.call_count == before
        return next(total.local())

    assert ChannelPort  # the ports of a run are those of its step, made by the operators that are kept
    with mock.patch.object(execute, "compile_graph", planned):
        first, second = run_workers(2, program, executor=executor)
    value = 0
    for _ in range(21):
        value = sum(x + value for x in range(100))
    assert first == second == value


def test_lazy_sets_are_made_once_when_they_are_needed(run_workers, executor):
    def program(env):
        calls = []
        context = TSetContext(env, partitions=2)
        base = context.parallelize(range(10)).map(lambda x: calls.append(x) or x).lazy_cache()
        squares = base.map(lambda x: x * x).lazy_persist()
        assert not base.is_filled
        assert calls == []
        with pytest.raises(UsageError, match="were not made yet"):
            next(base.local())
        assert squares.reduce("sum") == 285
        assert base.is_filled
        assert squares.is_filled
        assert base.union(squares).count() == 20
        mine = len(calls)
        assert mine == len(list(base.local()))
        context.eval(base)
        assert len(calls) == 2 * mine
        base.drop()
        base.drop()
        with pytest.raises(UsageError, match="was dropped"):
            base.count()
        assert squares.count() == 10
        return mine

    assert sum(run_workers(2, program, executor=executor)) == 10


@QUICK
@given(
    left=st.lists(st.tuples(st.integers(0, 5), st.integers()), max_size=20),
    right=st.lists(st.tuples(st.integers(0, 5), st.integers()), max_size=20),
    sizes=SIZES,
    how=st.sampled_from(["inner", "left", "right", "full"]),
    algorithm=st.sampled_from(["hash", "sort"]),
    partitioner=st.sampled_from([{}, {"partitioner": lambda pair, n: pair[0] // 2 % n}]),
)
def test_joins(run_workers, executor, left, right, sizes, how, algorithm, partitioner):
    expected = [(k, (a, b)) for k, a in left for other, b in right if k == other]
    if how in ("left", "full"):
        expected += [(k, (a, None)) for k, a in left if k not in dict(right)]
    if how in ("right", "full"):
        expected += [(k, (None, b)) for k, b in right if k not in dict(left)]

    def program(env):
        context = TSetContext(env, partitions=sizes[1])
        one, other = context.parallelize(left), context.parallelize(right, 2)
        return one.join(other, how, algorithm=algorithm, **partitioner).collect()

    for result in run_workers(sizes[0], program, executor=executor):
        assert sorted(result, key=repr) == sorted(expected, key=repr)


@QUICK
@given(parts=st.lists(st.lists(st.integers(), max_size=8), min_size=1, max_size=4), sizes=SIZES)
def test_unions_and_a_set_with_itself(run_workers, executor, parts, sizes):
    def program(env):
        context = TSetContext(env, partitions=sizes[1])
        sets = [context.parallelize(part) for part in parts]
        whole = sets[0].union(*sets[1:])
        pairs = whole.map_to_tuple(lambda x: (x, x))
        return sorted(whole.collect()), pairs.join(pairs).count()

    everything = sorted(itertools.chain(*parts))
    squares = sum(everything.count(x) ** 2 for x in set(everything))
    assert run_workers(sizes[0], program, executor=executor) == [(everything, squares)] * sizes[0]


def test_a_failure_in_a_loop_leaves_the_last_good_records(run_workers, executor):
    seen = []

    def program(env):
        context = TSetContext(env, partitions=2)
        numbers = context.parallelize([1, 2, 3, 4]).cache()
        try:
            for _ in range(10):
                context.eval_and_update(numbers.map(lambda x: 100 // (7 - x) and x + 1), numbers)
        except UserCodeError:
            seen.append(sorted(numbers.local()))
            raise

    with pytest.raises(UserCodeError, match="ZeroDivisionError"):
        run_workers(2, program, executor=executor)
    assert seen in ([[6, 7]], [[6, 7]] * 2)  # the other worker may get as far before it hears of it


def test_wrong_uses_are_named(run_workers):
    def program(env):
        context = TSetContext(env)
        plain = context.parallelize([1])
        kept, whole = plain.cache(), plain.replicate().cache()
        for wrong, said in [
            (lambda: context.eval(plain), "eval: .* is not kept"),
            (lambda: context.eval_and_update(plain, plain), "is not kept"),
            (lambda: context.eval(plain.lazy_for_each(str)), r"eval: .* is not kept\n.*\n.*run\(\)"),
            (lambda: context.eval_and_update(plain, whole), "cannot update"),
            (lambda: plain.map(str).add_input("x", plain), "add_input: .* is not kept"),
            (lambda: plain.add_input("x", kept), "can have no input 'x'"),
            (lambda: plain.map(str).add_input("x", kept).add_input("x", kept), "can have no input 'x'"),
            (lambda: plain.join([(1, 2)]), "join: .* is no set"),
            (lambda: plain.union(3), "union: 3 is no set"),
        ]:
            with pytest.raises(UsageError, match=said):
                wrong()

    run_workers(1, program)


def test_a_plan_is_looked_at_by_one_worker_alone_and_nothing_runs(run_workers):
    """What fills a lazy set stands for it until it is filled, also for sets that functions are given."""
    calls = []

    def noted(x):
        calls.append(x)
        return x

    def main(env):
        context = TSetContext(env)
        kept = context.parallelize(range(10)).map(noted).lazy_cache()
        extra = context.parallelize([1, 2]).map(noted).lazy_cache()
        both = kept.map(lambda x, context: x + len(context.input("extra"))).add_input("extra", extra).lazy_cache()
        asked = both.filter(lambda x: x > 3)
        told = asked.explain() if env.worker_id == 0 else ""
        before = list(calls)
        env.barrier()
        total = asked.sum()
        return told, before, total, asked.explain()

    (told, before, total, after), other = run_workers(2, main)
    assert before == []
    assert all(f"{step} (" in told for step in ("parallelize", "map", "filter"))
    assert total == other[2]
    assert "parallelize (" not in after, "filled: its records lie there"
