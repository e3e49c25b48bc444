"""The part of the operator suite about an operator's life: it lives and ends, waits for nobody, and closing gives
everything back.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from twister2.config.job import NetworkConfig
from twister2.spec.channel import HeaderKind
from twister2.spec.errors import UserCodeError
from twister2_testkit.capabilities import needs
from twister2_testkit.fakes import LocalCluster
from twister2_testkit.ops_drive import Exchange, Mark, context_of, drive, flat
from twister2_testkit.ops_pressure import MANY, QUIET, batch_of, exchange_of, local_targets
from twister2_testkit.ops_streams import HOLDING, PASSING, StreamChecks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twister2.spec.ops import Operator
    from twister2_testkit.fakes import LocalEnv

_FEW = 5
"""Batches for an operator that holds what it gets."""

_MEMORY = 4 << 20
"""Memory of a worker: so little that what is under way of a few batches is reserved."""


class LifeChecks(StreamChecks):
    """Operators without records, without others who do their part, and closed too early."""

    def of_every_operator(self, *marks: Mark) -> Iterator[Exchange]:
        """An exchange without records for every operator in every mode; streams have these marks."""
        for name, info in self.make_operators().catalog().items():
            required = {option: "sum" for option, declared in info.options.items() if declared.required}
            sides = max(1, info.inputs)
            sources = (0,) if info.shape == "one_to_many" else (0, 1)
            for mode in sorted(info.modes):
                yield Exchange(
                    name=name, sources=sources * sides, targets=(1,) if info.shape == "many_to_one" else (1, 0),
                    feeds=[marks if mode == "stream" else ()] * len(sources) * sides, workers=3,
                    inputs=(len(sources),) * sides if sides > 1 else (),
                    options={**required, **self.options.get(name, {})}, mode="stream" if mode == "stream" else "batch",
                )  # fmt: skip

    def test_every_operator_lives_and_ends(self) -> None:
        """Whatever an operator does: without records, its targets get the marks and one END, again after a reset."""
        time = HeaderKind.WATERMARK
        for exchange in self.of_every_operator(Mark(time, 10), Mark(HeaderKind.FLUSH, 1), Mark(HeaderKind.BARRIER, 2)):
            marks = [(mark.kind, mark.value) for mark in exchange.feeds[0]]
            for received in self.run(attrs.evolve(exchange, runs=2)):
                for target, items in received.items():
                    got = [(item.kind, item.value) for item in items[:-1] if item.kind != HeaderKind.DATA]
                    where = f"{exchange.name}, target {target}: {got}"
                    assert [mark for mark in got if mark[0] != time] == marks[1:], where
                    # its place is its own: who holds records until a flush keeps the watermark behind them
                    assert [mark for mark in got if mark[0] == time] == marks[:1], f"watermarks of {where}"
                    assert not flat(items), f"{exchange.name} made records of nothing for target {target}"

    def test_progress_and_receive_wait_for_nobody(self) -> None:
        """They return while nothing comes: no source sends or ends before they have returned on every worker."""
        for exchange in self.of_every_operator():
            returned: list[int] = []

            def worker(env: LocalEnv, exchange: Exchange = exchange, returned: list[int] = returned) -> None:
                with env.network.step("quiet", exchange.name) as step:
                    operator = self.make_operators().create(context_of(exchange, env, step))
                    for _ in range(3):
                        operator.progress()
                        for target in local_targets(exchange, env):
                            assert operator.receive(target) is None, f"{exchange.name} made something of nothing"
                    returned.append(env.worker_id)
                    self.spin(env, lambda: len(returned) == exchange.n_workers)
                    drive(operator, env, exchange)
                    operator.close()

            LocalCluster(exchange.n_workers, self.transport, deadline_s=self.deadline_s).run(worker)

    def test_close_in_the_middle(self) -> None:
        """Sources that are refused because no target takes anything, and operators that hold records."""
        shapes = [shape for shape in (*PASSING, *HOLDING) if self.capabilities.is_open(shape.name)]
        if not shapes:
            pytest.skip("none of the operators that pass records on or hold them is open")
        for shape in shapes:

            def batch(number: int, shape: Any = shape) -> list[Any]:
                return batch_of(shape, number)

            passes = shape in PASSING
            exchange = attrs.evolve(exchange_of(shape), mode="batch")
            held = self._closed(exchange, shape.sources, batch, most=MANY if passes else _FEW)
            if passes:
                assert all(held[worker] for worker in shape.sources), f"{shape}: refused, but nothing is reserved"

    @needs("partition")
    def test_close_after_an_error(self) -> None:
        """What one source has under way, after a user function has raised for another."""

        def picky(*values: Any) -> int:
            if "poison" in values:
                raise ZeroDivisionError("no poison please")
            return 0

        def poison(operator: Operator) -> None:
            with contextlib.suppress(UserCodeError):  # or it is refused, as the other source is
                operator.send(1, ["poison"])

        exchange = Exchange(
            name="partition", sources=(0, 0), targets=(1,), feeds=[[], []], options={"partitioner": picky}
        )
        held = self._closed(exchange, (0,), lambda number: [number] * 1000, last=poison)
        assert held[0], "refused, but nothing is reserved"

    def _closed(
        self,
        exchange: Exchange,
        sources: tuple[int, ...],
        batch: Callable[[int], list[Any]],
        *,
        most: int = MANY,
        last: Callable[[Operator], object] | None = None,
    ) -> list[int]:
        """Send until nothing moves on any worker, for no target takes anything; then close. Nothing is reserved after
        that.

        :param sources: those that send, ``most`` batches each. :param last: done on the first worker before it closes.
        :returns: bytes that were reserved on each worker before.
        """
        stuck: set[int] = set()
        over: set[int] = set()

        def worker(env: LocalEnv) -> int:
            sent = {source: 0 for source, where in enumerate(sources) if where == env.worker_id}
            quiet = 0

            def fill() -> bool:
                nonlocal quiet
                moved = False
                for source, count in sent.items():
                    if count < most and operator.send(source, batch(count)):
                        sent[source] = count + 1
                        moved = True
                moved = operator.progress() or moved
                quiet = 0 if moved else quiet + 1
                if quiet > QUIET:
                    stuck.add(env.worker_id)
                return len(stuck) == exchange.n_workers

            with env.network.step("close", exchange.name) as step:
                operator = self.make_operators().create(context_of(exchange, env, step))
                self.spin(env, fill)
                if last is not None and env.worker_id == 0:
                    last(operator)
                held = env.memory.use().reserved
                operator.close()
                operator.close()
                use = env.memory.use()
                assert not use.reserved, f"{exchange.name}: still reserved after close: {use.holders}"
            over.add(env.worker_id)
            self.spin(env, lambda: len(over) == exchange.n_workers)
            return held

        network = NetworkConfig(window_messages=4, window_mb=1, form_deadline_s=10)
        return LocalCluster(
            exchange.n_workers, self.transport, network=network, memory_bytes=_MEMORY, deadline_s=self.deadline_s
        ).run(worker)
