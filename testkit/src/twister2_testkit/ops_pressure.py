"""The part of the operator suite about streams under pressure: idle receivers, targets that do not read, backlogs."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from twister2.config.job import NetworkConfig
from twister2.spec.channel import HeaderKind
from twister2_testkit.capabilities import needs
from twister2_testkit.fakes import LocalCluster
from twister2_testkit.ops_drive import Exchange, context_of, drive, flat
from twister2_testkit.ops_streams import FLUSH, HOLDING, PASSING, Shape, StreamChecks, shaped

if TYPE_CHECKING:
    from twister2.spec.ops import Operator
    from twister2_testkit.fakes import LocalEnv

MANY = 200
"""Batches of a source, far more than windows let pass."""
_RECORDS = 1000
QUIET = 100
"""Turns without anything done after which a sender counts as stopped."""


class PressureChecks(StreamChecks):
    """Back-pressure, and records that move on at once."""

    @needs("streams")
    def test_stream_records_move_on_without_a_mark(self) -> None:
        """A single record reaches its target while the source stays open and silent."""
        for shape in self.on_streams(PASSING):
            seen = self._one_record(shape)
            assert seen == shape.copies, f"{shape}: the record waited for more"

    def _one_record(self, shape: Shape) -> int:
        lock = threading.Lock()
        seen = 0

        def worker(env: LocalEnv) -> None:
            nonlocal seen
            exchange = exchange_of(shape)
            with env.network.step("one", shape.name) as step:
                operator = self.make_operators().create(context_of(exchange, env, step))
                if shape.sources[0] == env.worker_id:
                    assert operator.send(0, shaped(shape, (0, 0, 0), 0))

                def advance() -> bool:
                    nonlocal seen
                    operator.progress()
                    for target in local_targets(shape, env):
                        while (item := operator.receive(target)) is not None:
                            if item.kind == HeaderKind.DATA:
                                with lock:
                                    seen += 1
                    return seen >= shape.copies

                self.spin(env, advance)
                drive(operator, env, exchange)
                operator.close()

        LocalCluster(4, self.transport, deadline_s=self.deadline_s).run(worker)
        return seen

    @needs("streams")
    def test_stream_target_that_does_not_read_stops_its_sources(self) -> None:
        """``send`` refuses in the end, and nothing is lost when the target wakes."""
        one_of_each = {shape.name: shape for shape in reversed(HOLDING)}.values()
        for shape in self.on_streams((*PASSING, *one_of_each)):
            asleep = threading.Event()
            results = self._clog(shape, asleep)
            refused = [count for _, count in results if count]
            assert refused, f"{shape}: nobody was refused"
            assert all(count < MANY for count in refused), f"{shape}: everything was taken although nobody read"
            if shape.name in {one.name for one in PASSING}:
                copies = shape.copies
                total = sum(sum(records for records in got.values()) for got, _ in results)
                per_batch = len(batch_of(shape, 0)) if shape.name != "alltoall" else _RECORDS
                assert total == MANY * per_batch * copies * len(shape.sources), f"{shape}: records were lost"

    def _clog(self, shape: Shape, awake: threading.Event) -> list[tuple[dict[int, int], int]]:
        holding = shape.name in {one.name for one in HOLDING}

        def worker(env: LocalEnv) -> tuple[dict[int, int], int]:
            exchange = exchange_of(shape)
            with env.network.step("clog", shape.name) as step:
                operator = self.make_operators().create(context_of(exchange, env, step))
                local = [source for source, where in enumerate(shape.sources) if where == env.worker_id]
                sent = dict.fromkeys(local, 0)
                taken = [0]
                quiet = [0]

                def push() -> bool:
                    moved = self._offer(operator, shape, sent, holding)
                    moved = operator.progress() or moved
                    taken[0] = sum(sent.values())
                    quiet[0] = 0 if moved else quiet[0] + 1
                    if quiet[0] > QUIET or all(count == MANY for count in sent.values()):
                        stuck.append(env.worker_id)
                        return True
                    return False

                self.spin(env, push)
                refusals = taken[0] // max(1, len(local)) if any(count < MANY for count in sent.values()) else 0
                if not local:
                    refusals = 0
                self.spin(env, lambda: bool([operator.progress(), len(set(stuck)) == 4][1]))
                awake.set()
                got: dict[int, int] = dict.fromkeys(local_targets(shape, env), 0)

                def finish() -> bool:
                    moved = True
                    while moved:
                        moved = self._offer(operator, shape, sent, holding)
                        for source in local:
                            if sent[source] == MANY:
                                operator.finish(source)
                        moved = operator.progress() or moved
                        for target in got:
                            while (item := operator.receive(target)) is not None:
                                moved = True
                                if item.kind == HeaderKind.DATA:
                                    got[target] += len(item.value)
                    return operator.is_complete

                env.network.wait_until(finish, "the rest")
                operator.close()
                return got, refusals

        stuck: list[int] = []
        config = NetworkConfig(window_messages=4, window_mb=1, form_deadline_s=10)
        return LocalCluster(4, self.transport, network=config, deadline_s=self.deadline_s).run(worker)

    def _offer(self, operator: Operator, shape: Shape, sent: dict[int, int], holding: bool) -> bool:
        moved = False
        for source, count in sent.items():
            if count < MANY and operator.send(source, batch_of(shape, count)):
                sent[source] = count + 1
                moved = True
                if holding:
                    operator.mark(source, FLUSH, count)
        return moved

    @needs("streams", "partition")
    def test_stream_batches_grow_with_the_backlog(self) -> None:
        """Single records to a target that is busy arrive in few batches, and all of them, in order."""

        def worker(env: LocalEnv) -> tuple[int, list[Any]]:
            exchange = Exchange(name="partition", sources=(0,), targets=(1,), feeds=[[]], mode="stream")
            with env.network.step("backlog") as step:
                operator = self.make_operators().create(context_of(exchange, env, step))
                if env.worker_id == 0:
                    refused = [0]
                    feed = deque([number] for number in range(2000))

                    def push() -> bool:
                        refused[0] += 1
                        while feed and operator.send(0, feed[0]):
                            feed.popleft()
                            refused[0] = 0
                        operator.progress()
                        if refused[0] > QUIET:
                            done.set()
                        return not feed

                    self.spin(env, push)
                    done.set()
                else:
                    self.spin(env, done.is_set)
                items = drive(operator, env, exchange).get(0, [])
                operator.close()
                return sum(item.kind == HeaderKind.DATA for item in items), flat(items)

        done = threading.Event()
        config = NetworkConfig(window_messages=4, window_mb=1, form_deadline_s=10)
        _, (count, records) = LocalCluster(2, self.transport, network=config, deadline_s=self.deadline_s).run(worker)
        assert records == list(range(2000))
        assert count < 1600, f"2000 records that had to wait came in {count} batches"


def exchange_of(shape: Shape) -> Exchange:
    """A stream of this shape on four workers."""
    return Exchange(
        name=shape.name, sources=shape.sources, targets=shape.targets, feeds=[[] for _ in shape.sources],
        options=shape.options, inputs=shape.inputs, mode="stream", workers=4,
    )  # fmt: skip


def local_targets(shape: Shape | Exchange, env: LocalEnv) -> list[int]:
    """The targets on this worker."""
    return [target for target, where in enumerate(shape.targets) if where == env.worker_id]


def batch_of(shape: Shape, count: int) -> list[Any]:
    """A batch of many records."""
    if shape.name == "alltoall":
        n = len(shape.targets)
        return [[count] * (_RECORDS // n + (target < _RECORDS % n)) for target in range(n)]
    if shape.name == "keyed_partition":
        return [(number % 7, count) for number in range(_RECORDS)]
    if shape.name == "reduce_scatter":
        return [1] * len(shape.targets)
    if shape.name in ("keyed_gather", "join"):  # they combine nothing at the sources, where a backlog has room for more
        return [(number, 1) for number in range(100)]
    if shape.name == "keyed_reduce":
        return [(number, 1) for number in range(50)]
    if shape.name == "count_by_value":
        return list(range(50))
    return [count] * _RECORDS
