"""Programs that send everything before they read anything."""

from __future__ import annotations

import tempfile

import numpy as np
import pytest

import twister2_net as net
from twister2.config.job import NetworkConfig
from twister2.spec.errors import OperatorError, SpillError
from twister2_testkit.fakes import LocalCluster
from twister2_testkit.ops_spill import small_disk

MANY, SIZE = 1000, 1 << 18
pytestmark = pytest.mark.timeout(120)


def put_all(env, op, many=MANY):
    for number in range(many):
        for source in op.local_sources:
            op.put(source, np.full(SIZE // 8, 1000 * env.worker_id + number))


@pytest.mark.parametrize("transport", ["inproc", "tcp", "shm"])
def test_all_may_send_before_they_read(transport):
    def main(env):
        other, before = 1 - env.worker_id, env.memory.use().reserved  # buffers of the transport
        with net.operator(env, "direct", sources=[0, 1], targets=[1, 0], mode="stream") as op:
            put_all(env, op)
            for source in op.local_sources:
                op.mark(source, "flush", "all")
            op.finish()
            assert not op.is_complete
            items = list(op.items())
            assert op.is_complete
            assert items.pop().value == "all"
            assert [int(item.value[0]) for item in items] == [1000 * other + number for number in range(MANY)]
            assert all(item.value[-1] == item.value[0] and item.kind.name == "DATA" for item in items[::100])
            peak = env.memory.use()
        return peak.peak, peak.spilled, env.memory.use().reserved - before

    limit = 64 << 20
    with tempfile.TemporaryDirectory(prefix="t2-put-") as folder:
        cluster = LocalCluster(2, transport, memory_bytes=limit, spill_dirs=[folder], deadline_s=90)
        for peak, spilled, left in cluster.run(main):
            assert peak <= limit
            assert spilled > MANY * SIZE // 4
            assert left == 0


@pytest.mark.parametrize("name", ["keyed_reduce", "reduce", "keyed_partition", "allreduce", "alltoall"])
def test_every_kind_of_operator_is_read_while_it_waits(name):
    n, many = 3, 60

    def main(env):
        options = {"reducer": "sum"} if "reduce" in name else {}
        workers = list(range(n))
        got = []
        targets = [1] if name == "reduce" else workers
        with net.operator(env, name, sources=workers, targets=targets, mode="stream", **options) as op:
            for number in range(many):
                batch = [(key, 1) for key in range(500)] if "keyed" in name else [1] * 100
                op.put(env.worker_id, [batch] * n if name == "alltoall" else batch)
                op.mark(env.worker_id, "flush", number)
            op.finish()
            got += [item for item in op.items() if item.kind.name == "FLUSH"]
        return [item.value for item in got]

    config = NetworkConfig(window_messages=2, window_mb=1, form_deadline_s=10)
    for worker, flushes in enumerate(LocalCluster(n, "loopback", network=config).run(main)):
        assert flushes == (list(range(many)) if name != "reduce" or worker == 1 else [])


@pytest.mark.parametrize("name", ["keyed_reduce", "allreduce", "direct"])
def test_all_may_send_behind_barriers_that_nobody_has_read(name):
    """Each worker sends three times, far more than there is room for, before it reads: states are those at barriers."""
    many = 40

    def main(env):
        tasks = {"sources": [0, 1], "targets": [0, 1], "mode": "stream"}
        if name != "direct":
            tasks["reducer"] = "sum"
        states = {}
        with net.operator(env, name, **tasks) as op:
            for segment in range(1, 4):
                for _ in range(many):
                    op.put(env.worker_id, [(0, 1), (1, 1)] if name == "keyed_reduce" else [1] * 100, 20.0)
                op.mark(env.worker_id, "barrier", segment)
            op.finish()
            for item in op.items(20.0):
                if item.kind.name == "BARRIER":
                    states[item.value] = op.snapshot()
        assert list(states) == [1, 2, 3]
        found = []
        for state in states.values():
            with net.operator(env, name, **tasks) as op:
                op.restore(state)
                items = op.run({}, 20.0)[env.worker_id]
                found.append([record for item in items if item.kind.name == "DATA" for record in item.value])
        return found, env.memory.use().reserved

    config = NetworkConfig(window_messages=2, window_mb=1, form_deadline_s=10)
    for found, reserved in LocalCluster(2, "loopback", network=config).run(main):
        assert reserved == 0
        if name == "direct":
            assert found == [[], [], []]
        elif name == "allreduce":
            assert found[0] in ([], [many * 200]), "the sum is held where the first of the targets is"
            assert found == [[n * one for one in found[0]] for n in (1, 2, 3)]
        else:
            assert [[count for _, count in one] for one in found] == [[2 * many * n] * len(found[0]) for n in (1, 2, 3)]


@pytest.mark.parametrize("transport", ["loopback", "tcp"])
@pytest.mark.parametrize("mark", ["barrier", "flush"])
@pytest.mark.parametrize("name", ["partition", "keyed_reduce", "allreduce", "direct"])
def test_a_source_may_be_a_mark_ahead_of_another_one_here(name, mark, transport):
    """Its targets read nothing behind the mark before the other source has sent it, which this worker does later."""
    many = 60

    def main(env):
        sources = [0, 0, 1]
        tasks = {"sources": sources, "targets": [1, 0, 1] if name == "direct" else [1, 0], "mode": "stream"}
        options = {"reducer": "sum"} if name in ("keyed_reduce", "allreduce") else {}
        with net.operator(env, name, **tasks, **options) as op:
            for source in op.local_sources:
                batch = [(key, 1) for key in range(4)] if name == "keyed_reduce" else [1] * 4
                for segment in range(3):
                    for _ in range(many):
                        op.put(source, batch, 20.0)
                    op.mark(source, mark, segment)
                op.finish(source)
            with pytest.raises(OperatorError, match="has finished"):
                op.put(op.local_sources[0], batch)
            found, total = [], 0
            for item in op.items(20.0):
                if item.kind.name != "DATA":
                    found.append((item.target, item.value, total))
                elif name == "keyed_reduce":
                    total += sum(value for _, value in item.value)
                else:
                    total += sum(item.value)
            assert op.is_complete
        return found, total, env.memory.use().reserved

    config = NetworkConfig(window_messages=2, window_mb=1, form_deadline_s=10)
    results = LocalCluster(2, transport, network=config, deadline_s=60).run(main)
    totals = [total for _, total, _ in results]
    everything = 3 * 3 * many * 4
    assert (totals == [everything] * 2) if name == "allreduce" else (sum(totals) == everything)
    for found, total, reserved in results:
        assert [value for target, value, _ in found if target == found[0][0]] == [0, 1, 2]
        assert reserved == 0
        if name == "partition" or (mark == "flush" and name != "direct"):
            assert [before for _, _, before in found] == [total // 3, 2 * total // 3, total]


def test_the_state_is_that_at_the_barrier_that_was_read():
    """Operators run ahead: when the first barrier is read, they have passed the second."""

    def main(env):
        states = []
        with net.operator(env, "keyed_reduce", sources=[0], targets=[0, 0], mode="stream", reducer="sum") as op:
            for number in range(1, 4):
                op.put(0, [(key, 1) for key in range(10)])
                op.mark(0, "barrier", number)
            op.finish()
            for _ in range(20):
                op.pump()
            for _ in range(3):
                for target in (0, 1):
                    assert op.receive(target).kind.name == "BARRIER"
                states.append(op.snapshot())
            list(op.items(10.0))
        found = []
        for state in states:
            with net.operator(env, "keyed_reduce", sources=[0], targets=[0, 0], mode="stream", reducer="sum") as op:
                op.restore(state)
                records = [r for items in op.run({}).values() for i in items for r in i.value]
                found.append(sorted(records))
        return found

    (found,) = LocalCluster(1, "loopback").run(main)
    assert found == [[(key, number) for key in range(10)] for number in (1, 2, 3)]


def test_targets_that_are_never_read_are_an_error_and_memory_stays_bounded():
    uses = {}

    def main(env):
        try:
            with net.operator(env, "direct", sources=[0, 1], targets=[1, 0], mode="stream") as op:
                put_all(env, op)
                op.finish()
        finally:
            uses[env.worker_id] = env.memory.use()

    limit = 48 << 20
    with tempfile.TemporaryDirectory(prefix="t2-put-") as folder, pytest.raises(OperatorError, match="taken their END"):
        LocalCluster(2, "inproc", memory_bytes=limit, spill_dirs=[folder], deadline_s=60).run(main)
    assert all(use.peak <= limit for use in uses.values())


def test_a_full_disk_is_a_clear_error():
    def main(env):
        with net.operator(env, "direct", sources=[0, 1], targets=[1, 0], mode="stream", label="floods") as op:
            put_all(env, op)

    with small_disk(8) as folder, pytest.raises(SpillError, match="floods"):
        LocalCluster(2, "inproc", memory_bytes=24 << 20, spill_dirs=[folder], deadline_s=60).run(main)
