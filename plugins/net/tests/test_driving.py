"""Operators used directly by worker programs."""

from __future__ import annotations

import pytest

import twister2_net as net
from twister2.spec.channel import HeaderKind
from twister2.spec.errors import DeadlineError, OperatorError, StepMismatchError
from twister2_testkit.fakes import LocalCluster


def everywhere(function, n=3, deadline_s=20.0):
    return LocalCluster(n, "loopback", deadline_s=deadline_s).run(function)


def test_keyed_reduce_on_a_stream_step_by_step():
    def main(env):
        got = []
        with net.operator(
            env, "keyed_reduce", sources=[0, 0, 1], targets=[0, 1], mode="stream", reducer="sum"
        ) as op:  # fmt: skip
            for number in (1, 2):
                for source in op.local_sources:
                    op.put(source, [("a", number), ("b", 1)], 5.0)
                    op.mark(source, "flush", number)
            op.finish()
            for item in op.items(5.0):
                got += [item.value] if item.kind == HeaderKind.FLUSH else sorted(item.value)
            assert op.is_complete
            assert op.counters.records_sent or not op.local_sources
        return got

    first, second, third = everywhere(main)
    assert third == []
    both = [record for record in first + second if isinstance(record, tuple)]
    assert sorted(both) == [("a", 3), ("a", 6), ("b", 3), ("b", 3)]
    assert [record for record in first if not isinstance(record, tuple)] == [1, 2]


def test_drive_and_use_again():
    def main(env):
        with net.operator(env, "alltoall", sources=[0, 1, 2], targets=[2, 1, 0], mode="stream") as op:
            runs = []
            for number in range(3):
                if number:
                    op.reset()
                feeds = {source: [[[source], [], [number]], net.Mark("flush", 1)] for source in op.local_sources}
                runs.append(
                    {target: [(i.kind.name, i.value) for i in items] for target, items in op.run(feeds, 10.0).items()}
                )
            return runs

    for number, per_worker in enumerate(zip(*everywhere(main), strict=True)):
        got = {target: items for one in per_worker for target, items in one.items()}
        assert sorted(value for kind, value in got[0] if kind == "DATA") == [[0], [1], [2]]
        assert got[1] == [("FLUSH", 1)]
        assert [value for kind, value in got[2] if kind == "DATA"] == [[number]] * 3


def test_several_inputs():
    def main(env):
        with net.operator(env, "union", sources=[[0, 1], [2]], targets=[1]) as op:
            found = op.run({source: [[source]] for source in op.local_sources})
        return [record for items in found.values() for item in items for record in item.value]

    assert sorted(everywhere(main)[1]) == [0, 1, 2]


def test_sub_groups_and_workers_without_tasks():
    def main(env):
        group = env.network.split(env.worker_id % 2)
        members = list(group.members)
        with net.operator(env, "gather", sources=members, targets=[members[-1]], group=group) as op:
            found = op.run({source: [[env.worker_id]] for source in op.local_sources})
        return sorted(record for items in found.values() for item in items for record in item.value)

    assert everywhere(main, 4) == [[], [], [0, 2], [1, 3]]


def test_a_barrier_cuts_a_stream():
    def main(env):
        options = {"sources": [0, 1], "targets": [1], "mode": "stream", "reducer": "sum"}
        state = None
        with net.operator(env, "reduce", **options) as op:
            for source in op.local_sources:
                op.put(source, [1, 2])
                op.mark(source, "barrier", 1)
            if op.local_targets:
                item = next(op.items(5.0))
                assert item.kind == HeaderKind.BARRIER
                state = op.snapshot()
            op.finish()
            list(op.items(5.0))
        with net.operator(env, "reduce", **options) as op:
            op.restore(state)
            found = op.run({source: [[10]] for source in op.local_sources})
        return [record for items in found.values() for item in items for record in item.value]

    assert everywhere(main, 2) == [[], [26]]


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda env: net.operator(env, "partitionn", sources=[0], targets=[1]), OperatorError, "partition"),
        (lambda env: net.operator(env, "partition", sources=[0], targets=[1], keyy=1), OperatorError, "keyy"),
        (lambda env: net.operator(env, "partition", sources=[0], targets=[7]), OperatorError, "7"),
        (lambda env: net.operator(env, "direct", sources=[[0], [1]], targets=[0, 1]), OperatorError, "inputs"),
        (lambda env: net.operator(env, "barrier", sources=[0], targets=[0]).mark(0, "flash"), OperatorError, "flash"),
        (lambda env: net.operator(env, "gather", sources=[0], targets=[env.worker_id]).pump(), StepMismatchError, "to"),
    ],
)
def test_mistakes_are_told(call, error, text):
    def main(env):
        op = call(env)
        if op is not None and hasattr(op, "wait_until"):
            op.wait_until(lambda: False, 5.0)
        env.barrier()

    with pytest.raises(error) as caught:
        everywhere(main, 2)
    assert text in str(caught.value)


def test_a_target_that_never_reads_is_a_deadline_not_a_hang():
    def main(env):
        with net.operator(env, "direct", sources=[0], targets=[1], mode="stream") as op:
            if env.worker_id:
                env.network.wait_until(lambda: False, "for ever", 3.0)
            for _ in range(1000):
                op.put(0, [bytes(1 << 16)] * 4, 1.0)

    with pytest.raises(DeadlineError):
        everywhere(main, 2)
