"""Operators used directly by worker programs."""

from __future__ import annotations

import time

import attrs
import pytest

import twister2_net as net
from twister2.spec.channel import HeaderKind
from twister2.spec.errors import DeadlineError, OperatorError, PluginNotFoundError, StepMismatchError
from twister2.spec.ops import OperatorInfo, Operators
from twister2_net.config import NetConfig
from twister2_net.plugin import NetPlugin
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


def test_worker_ids_may_be_any_integers():
    import numpy

    def main(env):
        found = []
        for sources, targets in ((numpy.arange(3), numpy.array([1])), ([numpy.arange(2), [numpy.int64(2)]], (1,))):
            with net.operator(env, "union", sources=sources, targets=targets) as op:
                got = op.run({source: [[source]] for source in op.local_sources}, 10.0)
            found += sorted(record for items in got.values() for item in items for record in item.value)
        return found

    assert everywhere(main) == [[], [0, 1, 2, 0, 1, 2], []]


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
        (lambda env: net.operator(env, "partition", sources=[0.5], targets=[1]), OperatorError, "0.5"),
        (lambda env: net.operator(env, "partition", sources=[0], targets=["1"]), OperatorError, "integers"),
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


@pytest.mark.parametrize(
    ("name", "does", "texts"),
    [
        ("alltoall", lambda op, me: me == 1 or op.run({me: [[[me]] * 3]}), ("worker 1", "sources [1]", "targets [1]")),
        ("gather", lambda op, me: op.put(me, [me]) or op.finish(), ("worker 0", "targets [0] have not taken")),
        ("gather", lambda op, me: me == 2 or op.run({me: [[me]]}), ("worker 2", "sources [2] have not finished")),
        ("keyed_reduce", lambda op, me: op.put(me, [(me, 1)]), ("have not finished", "have not taken")),
    ],
)
@pytest.mark.parametrize("transport", ["loopback", "tcp"])
def test_leaving_before_everything_is_done_is_an_error_on_all(name, does, texts, transport):
    targets = [0] if name == "gather" else [0, 1, 2]
    options = {"reducer": "sum"} if name == "keyed_reduce" else {}
    ended = []

    def main(env):
        try:
            with net.operator(env, name, sources=[0, 1, 2], targets=targets, mode="stream", **options) as op:
                does(op, env.worker_id)
            env.barrier("all have left")
        except Exception as error:
            ended.append(error)
            raise

    with pytest.raises(OperatorError) as caught:
        LocalCluster(3, transport, deadline_s=20).run(main)
    for text in texts:
        assert text in str(caught.value)
    assert len(ended) == 3
    assert "test_driving.py" in caught.value.where


def test_a_program_that_raises_inside_shows_its_own_error():
    def main(env):
        with net.operator(env, "gather", sources=[0, 1], targets=[0]):
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        everywhere(main, 2)


@pytest.mark.parametrize("algorithm", ["direct", "tree", "chain"])
def test_who_only_sends_may_leave_at_once(algorithm):
    def main(env):
        n = env.n_workers
        with net.operator(env, "gather", sources=list(range(n)), targets=[0], algorithm=algorithm) as op:
            got = []
            batches = [[bytes([number]) * 50_000] for number in range(30)]
            if env.worker_id == 0:
                op.drive({0: batches}, lambda item: got.append(len(item.value)), 10.0)
            else:
                for batch in batches:
                    op.put(env.worker_id, batch, 10.0)
                op.finish()
        op.close()
        return sum(got)

    assert everywhere(main, 5)[0] == 150


def test_a_mark_may_be_given_as_one():
    def main(env):
        with net.operator(env, "reduce", sources=[0, 0], targets=[0], mode="stream", reducer="sum") as op:
            for source in op.local_sources:
                op.put(source, [1])
                op.mark(source, net.Mark("flush", 7))
                op.finish(source)
            return [(item.kind.name, item.value) for item in op.items(5.0)]

    assert everywhere(main, 1) == [[("DATA", [2]), ("FLUSH", 7)]]


@pytest.mark.parametrize("algorithm", ["direct", "tree"])
def test_a_deadline_names_the_operator_and_who_is_open(algorithm):
    texts = {}

    def main(env):
        with net.operator(env, "reduce", label="sums", sources=[0, 1, 2], targets=[0], reducer="sum",
                          algorithm=algorithm) as op:  # fmt: skip
            if env.worker_id == 2:
                env.network.wait_until(lambda: len(texts) == 2, "the others", 10.0)
                op.finish()
                return
            if env.worker_id:
                op.put(1, [1])
                with pytest.raises(DeadlineError) as caught:
                    op.wait_until(lambda: False, 0.3)
                op.finish()
            else:
                op.finish()
                with pytest.raises(DeadlineError) as caught:
                    list(op.items(0.5))
            texts[env.worker_id] = str(caught.value)
            list(op.items(10.0))

    everywhere(main)
    assert "net.reduce 'sums'" in texts[0]
    assert "targets [0] have not taken their END" in texts[0]
    assert "sources on workers [1, 2]" in texts[0] or "sources on workers [2]" in texts[0]
    assert "sources [1] have not finished" in texts[1]


def test_waits_that_give_no_deadline_have_that_of_the_job():
    texts = {}

    def main(env):
        env.config = {"job": {"barrier_deadline_s": 0.3}}
        with net.operator(env, "partition", sources=[0, 1], targets=[0, 1]) as op:
            with pytest.raises(DeadlineError) as caught:
                list(op.items())
            texts[env.worker_id] = str(caught.value)
            op.finish()
            list(op.items(10.0))

    everywhere(main, 2)
    for worker in (0, 1):
        assert f"sources [{worker}] have not finished" in texts[worker]
    assert any(f"the sources on workers [{1 - worker}] have not ended" in texts[worker] for worker in (0, 1))


def test_a_call_of_many_rounds_may_last_longer_than_one_wait():
    def main(env):
        env.config = {"job": {"barrier_deadline_s": 0.2}}

        def slow():
            for number in range(4 * env.worker_id):
                time.sleep(0.15)
                yield [number]

        with net.operator(env, "partition", sources=[0, 1], targets=[0, 1]) as op:
            return [row for items in op.run({env.worker_id: slow()}).values() for item in items for row in item.value]

    assert sorted(row for rows in everywhere(main, 2) for row in rows) == [0, 1, 2, 3]


def test_operators_of_other_plugins():
    def main(env):
        env.backends["ops", "mine"] = Mine()
        with net.operator(env, "mine.twice", sources=[0], targets=[1]) as op:
            got = op.run({0: [[1, 2]]}, 5.0)
        with net.operator(env, "net.direct", sources=[0], targets=[1]) as op:
            op.run({0: [[1, 2]]}, 5.0)
        return [item.value for items in got.values() for item in items]

    class Mine(Operators):
        def catalog(self):
            return {"twice": OperatorInfo("twice", "every batch two times", "one_to_one")}

        def create(self, context):
            inner = NetPlugin().ops_create(config=NetConfig()).create(attrs.evolve(context, name="direct"))
            assert context.name == "twice"
            send = inner.send
            inner.send = lambda source, batch: send(source, batch * 2)
            return inner

    assert everywhere(main, 2) == [[], [[1, 2, 1, 2]]]
    with pytest.raises(PluginNotFoundError, match="nowhere"):
        everywhere(lambda env: net.operator(env, "nowhere.shift", sources=[0], targets=[0]), 1)


def test_who_reads_with_sources_that_have_not_finished_says_so():
    def main(env):
        told, waiting = [], env.link.waiting
        env.link.waiting = lambda text: (told.append(text), waiting(text))
        with net.operator(env, "partition", sources=[0, 1], targets=[0, 1]) as op:
            with pytest.raises(DeadlineError):
                list(op.items(0.3))
            unfinished = list(told)
            op.finish()
            list(op.items(10.0))
        return unfinished

    for worker, told in enumerate(everywhere(main, 2)):
        assert any(f"its sources [{worker}] have not finished" in text for text in told), told
