"""Values and reducers as people have them: ufuncs, masked arrays, subclasses, arrays without axes; what sums are."""

from __future__ import annotations

import operator

import numpy
import pytest

import twister2_net as net
from twister2.spec.errors import OperatorError, StepMismatchError
from twister2_testkit.fakes import LocalCluster
from twister2_testkit.native_loopback import NativeLoopback


def everywhere(function, n=3, transport="loopback"):
    return LocalCluster(n, transport).run(function)


@pytest.mark.parametrize("reducer", [numpy.add, operator.add, "sum"], ids=str)
def test_ufuncs_go_where_their_names_go(reducer):
    def main(env):
        mine = numpy.full(3, env.worker_id + 1.0)
        found = [
            net.allreduce(env, mine, reducer if env.worker_id else "sum", algorithm="native"),
            net.scan(env, mine, reducer, algorithm="native"),
            net.reduce_scatter(env, mine, reducer, algorithm="native"),
        ]
        return [one.tolist() for one in found]

    for rank, found in enumerate(everywhere(main, 3, NativeLoopback)):
        assert found == [[6.0] * 3, [(rank + 1) * (rank + 2) / 2] * 3, [6.0]]


def test_ufuncs_of_other_values_do_what_numpy_does():
    def main(env):
        return net.allreduce(env, [env.worker_id, 1], numpy.add).tolist(), net.allreduce(env, [env.worker_id, 1], "sum")

    assert everywhere(main, 2) == [([1, 2], [0, 1, 1, 1])] * 2


class Callable:
    """Compared, and so not hashable."""

    def __eq__(self, other):
        return True

    def __call__(self, left, right):
        return left + right


class Other(Callable):
    def __call__(self, left, right):
        return left * right


@pytest.mark.parametrize("value", [1.5, numpy.ones(3)], ids=["number", "array"])
@pytest.mark.parametrize(
    "reducers", [(numpy.add, numpy.multiply), (numpy.add, "prod"), (numpy.hypot, numpy.fmax), (Callable(), Other())]
)
def test_members_with_different_reducers_are_told(reducers, value):
    with pytest.raises(StepMismatchError, match="reducer="):
        everywhere(lambda env: net.allreduce(env, value, reducers[env.worker_id]), 2)


def test_a_reducer_need_not_be_hashable():
    assert everywhere(lambda env: net.allreduce(env, numpy.ones(2), Callable()).tolist(), 2) == [[2.0, 2.0]] * 2
    assert everywhere(lambda env: net.allreduce(env, env.worker_id + 2, Other()), 2) == [6, 6]


@pytest.mark.parametrize("transport", ["loopback", "tcp", "shm"])
@pytest.mark.parametrize("n", [1, 3])
def test_masked_arrays_keep_their_masks(transport, n):
    def main(env):
        mine = numpy.ma.array([1.0, 2.0, 3.0], mask=[env.worker_id == n - 1, False, False])
        found = [
            net.allreduce(env, mine),
            net.scan(env, mine)[1:],
            net.reduce_scatter(env, [mine] * n),
            net.broadcast(env, mine, n - 1),
            net.allgather(env, mine)[n - 1],
            net.alltoall(env, [mine] * n)[n - 1],
        ]
        return [one.tolist() for one in found]

    for rank, found in enumerate(everywhere(main, n, transport)):
        total, last = [None, 2.0 * n, 3.0 * n], [None, 2.0, 3.0]
        assert found == [total, [2.0 * (rank + 1), 3.0 * (rank + 1)], total, last, last, last]


MASKED = numpy.ma.array([[1, 2], [3, 4]], mask=[[False, True], [False, False]])


@pytest.mark.parametrize(
    "call",
    [
        lambda env: net.alltoall(env, MASKED),
        lambda env: net.reduce_scatter(env, MASKED),
        lambda env: net.partition(env, MASKED),
        lambda env: net.keyed_reduce(env, MASKED),
        lambda env: net.count_by_value(env, MASKED[:, 0]),
        lambda env: net.keyed_gather(env, MASKED),
        lambda env: net.join(env, MASKED, MASKED),
        lambda env: net.sort(env, MASKED),
    ],
)
def test_masked_arrays_are_not_cut(call):
    with pytest.raises(OperatorError, match="was given a masked array") as caught:
        everywhere(call, 2)
    assert "filled" in caught.value.remedy


@pytest.mark.parametrize("way", ["send", "put", "drive"])
def test_masked_arrays_are_no_batches_of_operators(way):
    def main(env):
        with net.operator(env, "direct", sources=[0], targets=[1]) as op:
            if way == "drive":
                op.drive({source: [MASKED] for source in op.local_sources})
            for source in op.local_sources:
                getattr(op, way)(source, MASKED)
                op.finish(source)
            list(op.items())

    with pytest.raises(OperatorError, match="a batch is a masked array") as caught:
        everywhere(main, 2)
    assert "filled" in caught.value.remedy
    assert caught.value.where.startswith("net.direct, worker 0, ")


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_the_rows_of_a_matrix_are_records_as_those_of_an_array():
    def main(env):
        with net.operator(env, "gather", sources=[0, 1], targets=[0]) as op:
            items = op.run({source: [numpy.matrix([[1, 2], [3, 4]])] for source in op.local_sources})
            return [[type(item.value), *item.value[1].tolist()] for item in items.get(0, ())]

    assert everywhere(main, 2) == [[[numpy.ndarray, 3, 4]] * 2, []]


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("transport", ["loopback", "tcp", "shm"])
@pytest.mark.parametrize("rows", [3, 30_000])
def test_a_matrix_is_an_array(transport, rows):
    def main(env):
        mine = numpy.matrix(numpy.full((rows, 2), env.worker_id + 1.0))
        found = [net.allreduce(env, mine), net.reduce_scatter(env, mine), net.alltoall(env, mine)]
        return [(type(one), one.shape, sorted(set(one.ravel().tolist()))) for one in found]

    whole, part = (rows, 2), (rows // 3, 2)
    want = [(whole, [6.0]), (part, [6.0]), (whole, [1.0, 2.0, 3.0])]
    assert everywhere(main, 3, transport) == [[(numpy.ndarray, *one) for one in want]] * 3


@pytest.mark.parametrize("dtype", ["f8", "i1", ">i4", "M8[s]", "m8[s]"])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_reductions_of_arrays_without_axes_give_such_arrays(dtype, n):
    def main(env):
        mine = numpy.array(env.worker_id + 1).astype("i8").astype(dtype)
        found = [net.allreduce(env, mine, "max"), net.scan(env, mine, max), net.reduce(env, mine, "min", n - 1)]
        return [(type(one), one.shape, int(one.astype("i8"))) for one in found if one is not None]

    for rank, found in enumerate(everywhere(main, n)):
        assert found == [(numpy.ndarray, (), want) for want in (n, rank + 1, 1)[: 3 if rank == n - 1 else 2]]


TRUTHS = numpy.array([[True, False], [True, True]])
BYTES = numpy.full((2, 2), 100, "i1")


@pytest.mark.parametrize(("rows", "both"), [(TRUTHS, TRUTHS), (BYTES, numpy.full((2, 2), -56, "i1"))], ids=["?", "i1"])
def test_two_values_are_added_as_numpy_adds_two_and_rows_as_it_sums_rows(rows, both):
    """A sum of truth values is an or, and bytes wrap; of the rows of a batch they are counted, in int64."""

    def reduced(env, batch):
        got = []
        with net.operator(env, "reduce", sources=[0, 1], targets=[0], reducer="sum") as op:
            feeds = {source: [batch, batch] for source in op.local_sources}
            op.drive(feeds, lambda item: got.append(item.value) if item.kind.name == "DATA" else None)
        return got

    def main(env):
        called = [net.allreduce(env, rows), [net.allreduce(env, row, operator.add) for row in rows]]
        assert called[0].dtype == rows.dtype
        return [numpy.array(one).tolist() for one in called], reduced(env, rows), reduced(env, list(rows))

    (called, of_rows, of_values), (others, *_) = everywhere(main, 2)
    assert called == others == [both.tolist()] * 2
    assert of_rows[0].dtype == numpy.int64
    assert of_rows[0].tolist() == (4 * rows.sum(axis=0)[None]).tolist()
    assert of_values[0][0].dtype == rows.dtype
    assert of_values[0][0].tolist() == (numpy.tile(rows, (4, 1)).sum(axis=0).astype(rows.dtype)).tolist()
