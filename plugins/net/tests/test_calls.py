"""The direct calls of worker programs."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import numpy
import pytest

import twister2_net as net
from twister2.spec.errors import KeyHashError, OperatorError, StepMismatchError, UsageError, UserCodeError
from twister2.spec.patterns import ALLREDUCE
from twister2_net.spilling.queues import Records
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
        assert net.scan(env, me + 1) == (me + 1) * (me + 2) // 2
        assert net.scan(env, numpy.full(3, me + 1)).tolist() == [(me + 1) * (me + 2) // 2] * 3
        assert net.scan(env, str(me), lambda a, b: a + b) == "".join(map(str, range(me + 1)))
        assert net.reduce_scatter(env, [me * rank for rank in range(n)]) == me * total
        rows = net.reduce_scatter(env, numpy.arange(2.0 * n).reshape(2 * n, 1) + me)
        assert rows.tolist() == [[2.0 * me * n + total], [(2.0 * me + 1) * n + total]]
        assert net.alltoall(env, [(me, rank) for rank in range(n)]) == [(rank, me) for rank in range(n)]
        assert net.alltoall(env, numpy.arange(n) + 100 * me).tolist() == [100 * rank + me for rank in range(n)]
        strided = numpy.arange(8.0)[::2]
        assert net.allreduce(env, strided).tolist() == (strided * n).tolist()
        assert net.reduce(env, numpy.ones(3), root=n - 1) is None or me == n - 1
        objects = net.allreduce(env, numpy.array([me, "x"], dtype=object), lambda a, b: a)
        assert objects.tolist() == [0, "x"]
        net.barrier(env)
        net.barrier(env, "named")
        return total

    assert everywhere(main, n) == [n * (n - 1) // 2] * n


MOVED = ["datetime64[s]", "timedelta64[ms]", "S5", "U3", "V7", ">i4", ">f8", "bool", "f2", "c16",
         [("key", "S10"), ("value", ">f4", (2,))]]  # fmt: skip


@pytest.mark.parametrize("dtype", MOVED, ids=str)
@pytest.mark.parametrize("transport", ["loopback", "shm"])
@pytest.mark.parametrize("n", [1, 3])
def test_alltoall_cuts_arrays_of_every_dtype_without_objects(n, dtype, transport):
    kind = numpy.dtype(dtype)

    def array_of(worker):
        raw = (numpy.arange(2 * n * 2 * kind.itemsize) + 64 * worker) % 26 + 97
        raw = numpy.zeros_like(raw) + (raw % 2) if kind.kind == "b" else raw
        if kind.kind == "U":
            return numpy.array([[f"{worker}{row}{column}" for column in range(2)] for row in range(2 * n)], kind)
        return raw.astype("u1").view(kind).reshape(2 * n, 2)

    def main(env):
        got = net.alltoall(env, array_of(env.worker_id))
        assert got.shape == (2 * n, 2)
        assert got.dtype == kind.newbyteorder("=")
        return got

    for worker, got in enumerate(LocalCluster(n, transport).run(main)):
        expected = numpy.concatenate([array_of(other)[2 * worker : 2 * worker + 2] for other in range(n)])
        assert (got == expected).all()


def test_reduce_scatter_of_times_and_of_the_other_byte_order():
    def main(env):
        times = numpy.arange(6).astype("timedelta64[s]")
        part = net.reduce_scatter(env, times)
        swapped = net.reduce_scatter(env, numpy.arange(6, dtype=">i4"))
        latest = net.reduce_scatter(env, times + numpy.datetime64("2020-01-01") + env.worker_id, "max")
        return part.astype(int).tolist(), part.dtype.kind, swapped.tolist(), swapped.dtype.isnative, latest[0]

    for worker, (part, kind, swapped, native, latest) in enumerate(everywhere(main)):
        assert part == swapped == [6 * worker, 6 * worker + 3]
        assert (kind, native) == ("m", True)
        assert latest == numpy.datetime64("2020-01-01T00:00:02") + 2 * worker


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


@pytest.mark.parametrize("transport", ["loopback", "inproc", "tcp", "shm"])
@pytest.mark.parametrize("n", [1, 3])
def test_what_exchanges_were_given_stays_the_callers_own(n, transport):
    def gone(env, rows):
        """Everything to one worker: the batch is sent as it is."""
        return net.partition(env, rows, lambda record, n: n - 1)

    def rows_of(me):
        return numpy.arange(100.0) + 100 * me

    def pairs_of(me):
        return numpy.stack([numpy.arange(100) % 7, numpy.arange(100) + 100 * me], axis=1)

    structured = numpy.dtype([("key", "i8"), ("value", "f8", (2,))])
    calls = [
        (gone, rows_of),
        (net.partition, rows_of),
        (lambda env, rows: net.partition(env, rows, "range"), rows_of),
        (lambda env, rows: net.partition(env, rows[::2]), rows_of),
        (net.keyed_partition, pairs_of),
        (net.keyed_reduce, pairs_of),
        (net.keyed_reduce, lambda me: numpy.full(5, me, structured)),
        (net.count_by_value, lambda me: numpy.arange(10) % 3),
        (lambda env, rows: net.keyed_gather(env, rows, ordered=True), pairs_of),
        (lambda env, rows: net.join(env, rows, rows), lambda me: pairs_of(me)[:20]),
        (gone, lambda me: [me] * 10),
    ]

    def main(env, number, change):
        call, make = calls[number]
        given = make(env.worker_id)
        before = given.copy()
        got = call(env, given)
        if change:
            given[:] = [0] * len(given) if isinstance(given, list) else numpy.zeros_like(given)  # at once
        else:
            assert numpy.array_equal(given, before)
        env.barrier()
        if isinstance(got, list):
            got.append(-1)
        return sorted(map(repr, got.items() if isinstance(got, dict) else got))

    for number in range(len(calls)):
        changed, kept = (LocalCluster(n, transport).run(main, number, change) for change in (True, False))
        assert changed == kept, number


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
        (lambda env: net.allreduce(env, numpy.zeros(2 + env.worker_id)), StepMismatchError, "shape=3"),
        (lambda env: net.allreduce(env, "x" if env.worker_id else 1), OperatorError, "sum"),
        (lambda env: net.allreduce(env, 1, lambda a, b: a / 0), UserCodeError, "ZeroDivisionError"),
        (lambda env: net.alltoall(env, numpy.zeros(3)), OperatorError, "3 rows"),
        (lambda env: net.alltoall(env, [1]), OperatorError, "one value for each"),
        (lambda env: net.barrier(env, f"b{env.worker_id}"), StepMismatchError, "b1"),
        (lambda env: net.broadcast(env, 1, root=9), OperatorError, "root 9"),
        (lambda env: net.allreduce(env, 1, "sum" if env.worker_id else "max"), StepMismatchError, "max"),
        (lambda env: net.allreduce(env, numpy.zeros(1, "f4" if env.worker_id else "f8")), StepMismatchError, "float32"),
        (lambda env: net.keyed_reduce(env, [([], 1)]), KeyHashError, "key"),
        (lambda env: net.keyed_reduce(env, [1]), OperatorError, "pair"),
        (lambda env: net.join(env, [(1, 2)], [(1, 3)], right_schema={"id": "int64"}), OperatorError, "right_schema"),
        (lambda env: net.partition(env, [1], "hashh"), OperatorError, "hashh"),
        (lambda env: net.partition(env, [1], lambda record, n: n), OperatorError, "partitioner"),
        (lambda env: net.partition(env, [1, None], "range"), OperatorError, "key=str"),
        (lambda env: net.count_by_value(env, [[]]), KeyHashError, "key"),
        (
            lambda env: net.partition(env, [1, 2] if env.worker_id else numpy.arange(2), lambda record, n: 0),
            OperatorError,
            "member 0 sent an array of int64 with records of shape (), member 1 a list",
        ),
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


@pytest.mark.parametrize("members", [2, 3])
def test_functions_get_arrays_in_the_shape_that_was_given(members):
    """A product of matrices: in the order of ranks, and only right for two dimensions."""
    matrices = numpy.random.default_rng(7).integers(-2, 3, (members, 4, 4)).astype(float)

    def main(env):
        mine = matrices[env.worker_id]
        shapes = []

        def product(left, right):
            shapes.append((left.shape, right.shape))
            return left @ right

        found = [
            net.allreduce(env, mine, product),
            net.reduce(env, mine, product, env.n_workers - 1),
            net.scan(env, mine, product),
            net.reduce_scatter(env, numpy.concatenate([mine] * env.n_workers), product),
        ]
        return found, set(shapes)

    whole = numpy.linalg.multi_dot(matrices)
    for rank, ((every, last, until, part), shapes) in enumerate(everywhere(main, members)):
        assert shapes <= {((4, 4), (4, 4))}
        assert numpy.array_equal(every, whole)
        assert last is None if rank < members - 1 else numpy.array_equal(last, whole)
        assert numpy.array_equal(until, matrices[0] if not rank else numpy.linalg.multi_dot(matrices[: rank + 1]))
        assert numpy.array_equal(part, whole)


def test_a_root_is_a_rank_in_the_group():
    def main(env):
        if env.worker_id == 1:
            return None
        group = env.group([3, 0, 2])
        me = env.worker_id
        found = [
            net.broadcast(env, me, root=1, group=group),
            net.reduce(env, me, "sum", 2, group=group),
            net.reduce(env, numpy.array([me]), "sum", numpy.int64(2), group=group),
            net.gather(env, me, 0, group=group),
        ]
        with pytest.raises(OperatorError, match="no root 3"):
            net.gather(env, me, 3, group=group)
        with pytest.raises(OperatorError, match="no root '0'"):
            net.gather(env, me, "0", group=group)
        return found

    zero, _, two, three = everywhere(main, 4)
    assert zero == [0, None, None, None]
    assert two == [0, 5, [5], None]
    assert three == [0, None, None, [3, 0, 2]]


STRUCTURE = [("k", "i4"), ("v", "f8")]


@pytest.mark.parametrize("dtype", ["i2", "u8", "f4", "f8", "c16", "?", "M8[s]", "S3", "U3", STRUCTURE], ids=str)
def test_arrays_in_either_byte_order(dtype):
    def main(env, order):
        numbers = numpy.arange(6) * 258 + env.worker_id
        if not isinstance(dtype, list) and numpy.dtype(dtype).kind in "SU?":
            numbers %= 7
        array = numpy.zeros(6, numpy.dtype(dtype).newbyteorder(order))
        if array.dtype.names:
            array["k"] = array["v"] = numbers
        else:
            array[:] = numbers.astype(dtype)
        kind = array.dtype.kind
        found = [
            net.broadcast(env, array, 1),
            net.alltoall(env, array),
            *net.allgather(env, array),
            *(net.gather(env, array, 2) or ()),
            *([net.allreduce(env, array, "max"), net.scan(env, array, "min")] if kind not in "SUV" else ()),
            *([net.allreduce(env, array), net.reduce_scatter(env, array)] if kind in "iufc" else ()),
        ]
        assert all(one.dtype.newbyteorder("=") == numpy.dtype(dtype) for one in found)
        return [one.tolist() for one in found]

    there, here = (everywhere(lambda env, order=order: main(env, order), 3) for order in "><")
    assert there == here
    assert len(here[2]) == len(here[0]) + 3


def test_options_of_operators_that_choose_where_records_go():
    def main(env):
        me, n = env.worker_id, env.n_workers
        records = [me * 10 + number for number in range(10)]
        assert net.partition(env, records, algorithm="chain") == net.partition(env, records)
        pairs = [(record % 7, record) for record in records]
        for algorithm in ("direct", "chain"):
            for descending in (False, True):
                got = net.keyed_partition(
                    env, pairs, "range", bounds=[2, 4], descending=descending, algorithm=algorithm
                )
                place = n - 1 - me if descending else me
                assert {key for key, _ in got} == [{0, 1}, {2, 3}, {4, 5, 6}][place]
                assert Counter(chain.from_iterable(net.allgather(env, got))) == Counter((k % 7, k) for k in range(30))
        mine = net.keyed_partition(env, pairs, lambda pair, n: pair[1] % n)
        assert {value % n for _, value in mine} == {me}
        by_key = net.keyed_partition(env, pairs, key=lambda pair: pair[1] // 10)
        places = [{value // 10 for _, value in part} for part in net.allgather(env, by_key)]
        assert sorted(chain.from_iterable(places)) == [0, 1, 2], "all of a key meet"
        grouped = net.co_group(env, pairs, [(me, "right")], partitioner="range", bounds=[2, 4])
        assert {key for key, _ in grouped} == [{0, 1}, {2, 3}, {4, 5, 6}][me]
        assert all(list(right) == ["right"] * (key < n) for key, (_, right) in grouped)

    everywhere(main)


@pytest.mark.parametrize(("how", "side"), [("inner", "right"), ("inner", "left"), ("left", "right"), ("right", "left")])
def test_a_small_side_of_a_join_goes_to_all(how, side):
    def main(env):
        me = env.worker_id
        left, right = [(key, ("l", me)) for key in range(6)], [(key, ("r", me)) for key in range(3, 9)]
        got = net.join(env, left, right, how, broadcast=side)
        stays = 0 if side == "right" else 1
        assert {pair[stays] for _, pair in got} == {("l" if side == "right" else "r", me)}
        return list(got), list(net.join(env, left, right, how))

    sides = everywhere(main)
    small, usual = (Counter(chain.from_iterable(side[number] for side in sides)) for number in (0, 1))
    assert small == usual


def test_a_side_of_a_join_that_no_member_gives_has_columns():
    pyarrow = pytest.importorskip("pyarrow")

    def main(env):
        left = pyarrow.RecordBatch.from_pydict({"id": [env.worker_id], "v": ["left"]})
        schema = pyarrow.schema({"id": pyarrow.int64(), "w": pyarrow.string()})
        got = net.join(env, left, [], "left", right_schema=schema)
        return list(got)

    rows = chain.from_iterable(everywhere(main))
    assert sorted((row["id"], row["v"], row["w"]) for row in rows) == [(n, "left", None) for n in range(3)]


def test_records_that_were_closed_are_not_read_as_none():
    def main(env):
        found = net.sort(env, [1, 2, 3])
        assert [*found] == [1, 2, 3]
        walk = found.batches()
        found.close()
        found.close()
        for read in (lambda: next(iter(found)), lambda: next(walk)):
            with pytest.raises(UsageError, match="the result of sort is closed: its 3 records are given back"):
                read()
        none = net.sort(env, [])
        none.close()
        return [*none]

    assert everywhere(main, 1) == [[]]


def test_records_that_are_closed_while_they_are_read_do_not_end_early():
    def main(env):
        found = Records(env.memory, "result of a test")
        for batch in ([1, 2], [3], [4]):
            found.add(batch)
        walk = found.batches()
        assert [next(walk), next(walk)] == [[1, 2], [3]]
        found.close()
        with pytest.raises(UsageError, match="closed"):
            next(walk)

    everywhere(main, 1)
