"""The algorithm ring of allreduce and reduce_scatter, and where there is none."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import twister2_net as net
from twister2.spec.errors import OperatorError
from twister2_testkit.fakes import LocalCluster

few = settings(max_examples=15, deadline=None, database=None, suppress_health_check=list(HealthCheck))
UFUNCS = {"sum": np.add, "max": np.maximum, "band": np.bitwise_and, "prod": np.multiply}


def run(name, tasks, feeds, **options):
    """What each target got; sources and targets on some of the workers."""

    def main(env):
        with net.operator(env, name, **tasks, **options) as op:
            found = op.run({source: feeds[source] for source in op.local_sources}, 20.0)
        return {target: [item.value for item in items] for target, items in found.items()}

    size = 1 + max(*tasks["sources"], *tasks["targets"])
    parts = LocalCluster(size, "loopback").run(main)
    return {target: batches for part in parts for target, batches in part.items()}


places = st.lists(st.integers(0, 4), min_size=1, max_size=5)


@few
@given(places, places, st.sampled_from(sorted(UFUNCS)), st.integers(0, 9), st.booleans(), st.randoms())
def test_allreduce_round_a_ring(sources, targets, reducer, length, initial, chance):
    feeds = [
        [[np.array([chance.randint(-9, 9) for _ in range(3 * length)], int).reshape(3, length)]] * chance.randint(0, 2)
        for _ in sources
    ]
    given_all = [array for feed in feeds for (array,) in feed]
    options = {"initial": np.full((3, length), 5)} if initial else {}
    everything = [*given_all, *options.values()]
    tasks = {"sources": sources, "targets": targets}
    found = run("allreduce", tasks, feeds, reducer=reducer, algorithm="ring", **options)
    for target in range(len(targets)):
        if not everything:
            assert found[target] == []
            continue
        ((got,),) = found[target]
        assert got.shape == (3, length)
        assert np.array_equal(got, functools.reduce(UFUNCS[reducer], everything))


@few
@given(places, places, st.booleans(), st.randoms())
def test_reduce_scatter_round_a_ring(sources, targets, arrays, chance):
    n = len(targets)
    feeds = [[[chance.randint(-9, 9) for _ in range(n)] for _ in range(chance.randint(0, 3))] for _ in sources]
    sums = [sum(column) for column in zip(*(batch for feed in feeds for batch in feed), strict=True)]
    if arrays:
        feeds = [[np.array(batch) for batch in feed] for feed in feeds]
    found = run("reduce_scatter", {"sources": sources, "targets": targets}, feeds, reducer="sum", algorithm="ring")
    assert [[int(one) for (one,) in found[target]] for target in range(n)] == ([[one] for one in sums] or [[]] * n)


def test_values_that_cannot_be_cut_go_round_whole():
    tasks = {"sources": [0, 1, 2], "targets": [0, 2]}
    assert run("allreduce", tasks, [[[1, 2]], [[3]], []], reducer="sum", algorithm="ring") == {0: [[6]], 1: [[6]]}
    rows = [[np.arange(6).reshape(2, 3)], [np.ones((1, 3), int)], [np.ones((4, 3), int)]]
    for got in run("allreduce", tasks, rows, reducer="sum", algorithm="ring").values():
        assert np.array_equal(got[0], [[8, 10, 12]])


def test_an_operator_goes_round_again():
    def main(env):
        workers = list(range(env.n_workers))
        found = []
        with net.operator(env, "allreduce", sources=workers, targets=workers, reducer="max", algorithm="ring") as op:
            for number in range(3):
                if number:
                    op.reset()
                items = op.run({env.worker_id: [[np.arange(7) * (number + env.worker_id)]]}, 20.0)[env.worker_id]
                found.append(items[0].value[0].tolist())
        return found

    for found in LocalCluster(3, "inproc").run(main):
        assert found == [[place * (number + 2) for place in range(7)] for number in range(3)]


@pytest.mark.parametrize(
    ("name", "options", "mode", "text"),
    [
        ("allreduce", {"reducer": lambda left, right: left}, "batch", "name the reducer"),
        ("allreduce", {"reducer": "sum"}, "stream", "all sources have finished"),
        ("reduce_scatter", {"reducer": "sum"}, "stream", "all sources have finished"),
        ("reduce", {"reducer": "sum"}, "batch", "direct, tree, chain"),
        ("gather", {}, "batch", "direct, tree, chain"),
        ("allgather", {}, "batch", "direct, tree, chain"),
        ("broadcast", {}, "stream", "direct, tree, chain"),
        ("partition", {}, "batch", "direct, chain"),
        ("keyed_reduce", {"reducer": "sum"}, "batch", "algorithm"),
        ("alltoall", {}, "batch", "algorithm"),
    ],
)
def test_where_there_is_no_ring_the_error_says_what_there_is(name, options, mode, text):
    def main(env):
        net.operator(env, name, sources=[0, 1], targets=[0], mode=mode, algorithm="ring", **options)

    with pytest.raises(OperatorError, match=text) as caught:
        LocalCluster(2, "loopback").run(main)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("name", "known"), [("allreduce", "direct, tree, chain, ring"), ("reduce_scatter", "direct, ring")]
)
def test_unknown_algorithms_are_told_of_rings(name, known):
    def main(env):
        net.operator(env, name, sources=[0, 1], targets=[0], algorithm="rung", reducer="sum")

    with pytest.raises(OperatorError, match=known):
        LocalCluster(2, "loopback").run(main)


def test_wrong_use_of_a_ring():
    def marks(env):
        with net.operator(env, "allreduce", sources=[0], targets=[0], algorithm="ring", reducer="sum") as op:
            op.run({source: [net.Mark("flush", 1)] for source in op.local_sources})

    def forms(env):
        with net.operator(env, "allreduce", sources=[0, 1], targets=[0], algorithm="ring", reducer="sum") as op:
            op.run({source: [[np.ones(4 + source)]] for source in op.local_sources}, 10.0)

    with pytest.raises(OperatorError, match="FLUSH"):
        LocalCluster(1, "loopback").run(marks)
    with pytest.raises(OperatorError, match="one shape and dtype"):
        LocalCluster(2, "loopback").run(forms)


@pytest.mark.parametrize("algorithm", ["", "direct", "tree", "chain"])
@pytest.mark.parametrize("name", ["gather", "reduce"])
def test_several_targets_of_what_has_one_are_refused(name, algorithm):
    options = {"reducer": "sum"} if name == "reduce" else {}

    def main(env):
        net.operator(env, name, sources=[0, 1], targets=[0, 1], algorithm=algorithm, **options)

    with pytest.raises(OperatorError, match=f"all{name}"):
        LocalCluster(2, "loopback").run(main)


@pytest.mark.parametrize("members", [1, 2, 3, 5])
def test_calls_round_a_ring(members):
    def main(env):
        me = env.worker_id
        whole = net.allgather(env, [me] * me, algorithm="ring")
        total = net.allreduce(env, np.arange(9) * (me + 1), algorithm="ring")
        part = net.reduce_scatter(env, np.arange(2 * members) + me, algorithm="ring")
        return whole, total.tolist(), part.tolist()

    added = sum(range(members))
    for rank, (whole, total, part) in enumerate(LocalCluster(members, "loopback").run(main)):
        assert whole == [[one] * one for one in range(members)]
        assert total == [place * (added + members) for place in range(9)]
        assert part == [place * members + added for place in (2 * rank, 2 * rank + 1)]


@pytest.mark.parametrize("call", [net.scan, net.reduce_scatter, net.alltoall, net.allgather, net.broadcast])
def test_algorithms_that_objects_do_not_have_are_refused(call):
    with pytest.raises(OperatorError, match="no algorithm 'rung'"):
        LocalCluster(2, "loopback").run(lambda env: call(env, [1, 2], algorithm="rung"))
