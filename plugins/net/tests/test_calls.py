"""The direct calls of worker programs."""

from __future__ import annotations

from collections import Counter

import numpy
import pytest

import twister2_net as net
from twister2.spec.errors import KeyHashError, OperatorError, StepMismatchError, UserCodeError
from twister2_net.trees import ALLREDUCE
from twister2_testkit.fakes import LocalCluster


def everywhere(function, n=3):
    return LocalCluster(n, "loopback").run(function)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7])
def test_values_of_all_kinds(n):
    def main(env):
        me = env.worker_id
        total = net.allreduce(env, me)
        array = net.allreduce(env, numpy.full((2, 3), float(me)), "max")
        assert array.flags.writeable
        assert array.tolist() == [[n - 1.0] * 3] * 2
        assert net.allreduce(env, numpy.float64(me)) == total
        assert net.allreduce(env, [me], lambda a, b: sorted(a + b)) == list(range(n))
        for name in ALLREDUCE:
            assert net.allreduce(env, me + 1, "prod", algorithm=name) == numpy.prod(range(1, n + 1))
        assert net.reduce(env, me, "min", root=n - 1) == (0 if me == n - 1 else None)
        assert net.broadcast(env, ("from", me), root=n // 2) == ("from", n // 2)
        assert net.broadcast(env, None) is None
        assert net.gather(env, str(me), root=n - 1) == ([str(rank) for rank in range(n)] if me == n - 1 else None)
        assert net.gather(env, None) == ([None] * n if me == 0 else None)
        assert net.allgather(env, [me]) == [[rank] for rank in range(n)]
        net.barrier(env)
        return total

    assert everywhere(main, n) == [n * (n - 1) // 2] * n


def test_arguments_stay_the_callers_own():
    def main(env):
        mine = numpy.arange(3.0)
        for _ in range(3):
            total = net.allreduce(env, mine)
            gathered = net.allgather(env, mine)
            got = net.broadcast(env, mine)
            mine += 1  # may be changed at once
            total += 1
            assert total is not mine
        return mine.tolist(), [part.tolist() for part in gathered], got.tolist()

    for worker, (mine, gathered, got) in enumerate(everywhere(main)):
        assert mine == [3.0, 4.0, 5.0]
        # what came from others is as it was sent; a worker's own part is the very array it gave
        assert gathered == [mine if rank == worker else [2.0, 3.0, 4.0] for rank in range(3)]
        assert got == (mine if worker == 0 else [2.0, 3.0, 4.0])


def test_groups():
    def main(env):
        group = env.network.split(env.worker_id % 2)
        return net.allreduce(env, env.worker_id, group=group), net.allgather(env, env.worker_id, group=group)

    assert everywhere(main, 5) == [(6, [0, 2, 4]), (4, [1, 3]), (6, [0, 2, 4]), (4, [1, 3]), (6, [0, 2, 4])]


def test_exchanges():
    words = [f"w{number % 37}" for number in range(500)]

    def main(env):
        mine = words[env.worker_id :: env.n_workers]
        counts = net.count_by_value(env, mine)
        assert counts == net.keyed_reduce(env, ((word, 1) for word in mine))
        assert Counter(net.partition(env, mine)) == counts
        assert Counter(key for key, _ in net.keyed_partition(env, [(word, 1) for word in mine])) == counts
        array = net.partition(env, numpy.arange(10) + 100 * env.worker_id, "round_robin")
        nothing = net.partition(env, numpy.arange(5), lambda record, n: 0)
        assert array.dtype == nothing.dtype
        assert len(nothing) == (15 if env.worker_id == 0 else 0)
        ordered = net.partition(env, mine, "range")
        return counts, array, ordered

    results = everywhere(main)
    together: dict = {}
    for counts, _, _ in results:
        assert not set(together) & set(counts)
        together.update(counts)
    assert together == Counter(words)
    assert sorted(numpy.concatenate([array for _, array, _ in results])) == sorted(
        number + 100 * worker for worker in range(3) for number in range(10)
    )
    assert [word for _, _, part in results for word in sorted(part)] == sorted(words)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda env: net.allreduce(env, 1, "summ"), OperatorError, "summ"),
        (lambda env: net.allreduce(env, 1, algorithm="fast"), OperatorError, "fast"),
        (lambda env: net.allreduce(env, numpy.zeros(2 + env.worker_id)), OperatorError, "shape"),
        (lambda env: net.allreduce(env, "x" if env.worker_id else 1), OperatorError, "sum"),
        (lambda env: net.allreduce(env, 1, lambda a, b: a / 0), UserCodeError, "ZeroDivisionError"),
        (lambda env: net.broadcast(env, 1, root=9), OperatorError, "root 9"),
        (lambda env: net.allreduce(env, 1, "sum" if env.worker_id else "max"), StepMismatchError, "max"),
        (lambda env: net.allreduce(env, numpy.zeros(1, "f4" if env.worker_id else "f8")), StepMismatchError, "f4"),
        (lambda env: net.keyed_reduce(env, [([], 1)]), KeyHashError, "key"),
        (lambda env: net.keyed_reduce(env, [1]), OperatorError, "pair"),
        (lambda env: net.partition(env, [1], "hashh"), OperatorError, "hashh"),
        (lambda env: net.partition(env, [1], lambda record, n: n), OperatorError, "partitioner"),
        (lambda env: net.partition(env, [1, None], "range"), OperatorError, "give key="),
        (lambda env: net.count_by_value(env, [[]]), KeyHashError, "key"),
    ],
)
def test_mistakes_are_told(call, error, text):
    with pytest.raises(error) as caught:
        everywhere(call, 2)
    assert text in str(caught.value)
    assert caught.value.remedy


def test_nothing_heavy_is_imported_before_use():
    import subprocess
    import sys

    code = "import sys, twister2_net, twister2_net.plugin; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode == 0
    assert set(net.__all__) <= set(dir(net))
    with pytest.raises(AttributeError):
        net.no_such_call  # noqa: B018 - the access is the test
