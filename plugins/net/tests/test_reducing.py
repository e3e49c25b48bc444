"""Reductions on streams and over arrays."""

from __future__ import annotations

import time

import numpy as np
import pytest

import twister2_net as net
from twister2.config.job import NetworkConfig
from twister2.spec.errors import UserCodeError
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
