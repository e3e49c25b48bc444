"""Reductions on streams and over arrays."""

from __future__ import annotations

import time

import numpy as np
import pytest

import twister2_net as net
from twister2.config.job import NetworkConfig
from twister2.spec.errors import UserCodeError
from twister2.worker.network.codec import decode, encode
from twister2_net.operators.reducing import Part
from twister2_testkit.fakes import LocalCluster


@pytest.mark.parametrize(
    ("name", "more"),
    [("reduce_scatter", {})]
    + [(name, {"algorithm": how}) for name in ("reduce", "allreduce") for how in ("direct", "tree", "chain")],
)
def test_a_reduction_under_a_memory_limit_waits_for_credit(name, more):
    """More flushes than the channels have room for, and targets that read late."""
    n, many = 3, 200

    def main(env):
        targets = [0] if name == "reduce" else list(range(n))
        options = {"sources": list(range(n)), "targets": targets, "reducer": "sum", **more}
        with net.operator(env, name, mode="stream", **options) as op:
            sent, got = 0, []
            me = env.worker_id
            batch = [np.ones(500)] * (n if name == "reduce_scatter" else 2)

            def offer():
                nonlocal sent
                while sent < many and op.send(me, batch):
                    op.mark(me, "flush", sent)
                    sent += 1
                return op.pump()

            for _ in range(200):  # nobody reads: what is sent has to wait
                if not offer():
                    time.sleep(1e-3)
            assert sent < many

            def finish():
                offer()
                if sent == many:
                    op.finish()
                while (item := op.receive()) is not None:
                    if item.kind.name == "DATA":
                        got.append(float(item.value[0][0]))
                return op._operator.is_complete

            op.wait_until(finish, 20.0)
            return got

    config = NetworkConfig(window_messages=2, window_mb=1, form_deadline_s=10)
    results = LocalCluster(n, "loopback", network=config, memory_bytes=64 << 20, deadline_s=40).run(main)
    for got in results[: 1 if name == "reduce" else n]:
        assert got == [float(n if name == "reduce_scatter" else 2 * n)] * many


def test_a_ufunc_that_raises_over_rows_names_the_operator():
    def main(env):
        with net.operator(env, "reduce", sources=[0], targets=[0], reducer="sum", label="texts") as op:
            op.run({0: [np.array(["a", "b"])]}, 5.0)

    with pytest.raises(UserCodeError, match="reduce 'texts'"):
        LocalCluster(1).run(main)


def test_sums_over_rows_of_small_integers_do_not_overflow():
    def main(env):
        with net.operator(env, "reduce", sources=[0], targets=[0], reducer="sum") as op:
            found = op.run({0: [np.full(1000, 100, dtype="int8"), np.full(1, 100, dtype="int8")]}, 5.0)
        return [item.value.tolist() for item in found[0] if item.kind.name == "DATA"]

    assert LocalCluster(1).run(main) == [[[100_100]]]


def test_a_reduction_of_two_workers_is_one_message_each_way():
    def main(env):
        with net.operator(env, "allreduce", sources=[0, 1], targets=[0, 1], reducer="sum") as op:
            items = op.run({env.worker_id: [[1.0], [2.0]]})[env.worker_id]
            assert [item.kind.name for item in items] == ["DATA"]
            counters = op.counters
            return items[0].value, counters.messages_sent, counters.messages_received

    assert LocalCluster(2, "loopback").run(main) == [([6.0], 1, 1)] * 2


def test_what_a_worker_hands_to_itself_waits_for_the_marks_of_others_in_order_and_within_bounds():
    many = 300

    def main(env):
        me = env.worker_id
        with net.operator(env, "reduce", mode="stream", sources=[0, 1], targets=[0], reducer="sum") as op:
            sent = 0

            def offer():
                nonlocal sent
                moved = False
                while sent < many and op.send(me, [10**me * sent]):
                    op.mark(me, "flush", sent)
                    sent += 1
                    moved = True
                return moved

            if me == 0:
                while offer():
                    op.pump()
                assert 0 < sent < many, "the other worker has sent nothing: what is held has bounds"
            env.network.exchange_objects(None)
            got = []

            def finish():
                offer()
                if sent == many:
                    op.finish()
                while (item := op.receive()) is not None:
                    if item.kind.name == "DATA":
                        got.append(item.value[0])
                return op._operator.is_complete

            op.wait_until(finish, 20.0)
            return got

    assert LocalCluster(2, "loopback", deadline_s=40).run(main)[0] == [11 * number for number in range(many)]


VALUES = [
    *(np.arange(6.0), np.ones((2, 3), np.float32), np.zeros((0, 2)), np.ones(5000), np.array(["b", "aa"])),
    *(np.float64(2.5), np.int8(-3), np.datetime64("2020-01-01"), np.array(4), np.array([1, "x"], dtype=object)),
    *(
        np.array([(1, 2.0)], dtype="i4,f8"),
        3,
        "text",
        None,
        (np.ones(2), 1),
        [np.ones(2)],
        np.ma.array([1, 2], mask=[0, 1]),
    ),
]


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("value", VALUES, ids=[f"{type(value).__name__}-{index}" for index, value in enumerate(VALUES)])
def test_a_part_comes_as_it_was_sent(value, rows):
    """Whatever it is, over a codec: its type, its dtype and its shape too."""
    packed = Part(rows, value).packed()
    assert len(packed) == 1, "counted as one record"
    kind, head, buffers, _ = encode(packed)
    came = Part.unpacked(decode(kind, head, [memoryview(bytes(buffer)) for buffer in buffers]))
    assert came.rows == rows
    assert type(came.value) is type(value)
    if hasattr(value, "dtype"):
        assert (came.value.dtype, came.value.shape) == (value.dtype, value.shape)
    np.testing.assert_equal(came.value, value)


def test_a_small_array_that_waits_to_be_sent_is_not_changed_by_what_its_worker_does_with_it():
    value = np.zeros(3)
    packed = Part(False, value).packed()
    value += 1.0
    assert Part.unpacked(packed).value.tolist() == [0.0, 0.0, 0.0]


def test_a_reducer_may_change_small_arrays_in_place():
    def added(left, right):
        left += right
        return left

    def main(env):
        everybody = list(range(env.n_workers))
        with net.operator(env, "allreduce", sources=everybody, targets=everybody, reducer=added) as op:
            items = op.run({env.worker_id: [[np.full(3, float(env.worker_id))]]})
            return [record.tolist() for item in items[env.worker_id] if item.value for record in item.value]

    for came in LocalCluster(3, "loopback", deadline_s=40).run(main):
        assert came == [[3.0, 3.0, 3.0]]
