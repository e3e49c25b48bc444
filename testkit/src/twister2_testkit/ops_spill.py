"""The part of the operator suite about memory: what does not fit goes to disk, and the answers stay what they were."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from twister2.config.job import NetworkConfig
from twister2.spec.channel import HeaderKind
from twister2.spec.errors import MemoryBudgetError, SpillError
from twister2_testkit.capabilities import needs
from twister2_testkit.fakes import LocalCluster
from twister2_testkit.ops_base import OperatorChecks, bag, everything
from twister2_testkit.ops_drive import Exchange, Mark, context_of, drive, feed_one, flat
from twister2_testkit.ops_keyed import grouped, joined

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twister2.spec.memory import MemoryUse
    from twister2_testkit.fakes import LocalEnv

BUDGET = 1 << 20


@attrs.frozen
class Case:
    """An exchange of more than the budget. ``look``: what of the answer must be as it is with memory for all."""

    name: str
    exchange: Exchange
    look: Callable[[dict[int, list[Any]]], Any]


def _pairs(n: int, n_keys: int, seed: int = 0) -> list[list[tuple[int, str]]]:
    """Batches of pairs, about 130 bytes each in memory."""
    return [
        [((number * 7919 + seed) % n_keys, f"value {number} of {seed}") for number in range(start, start + 500)]
        for start in range(0, n, 500)
    ]


def cases() -> list[Case]:
    """Every operator that holds records, with two to four times the budget."""
    many, few = [_pairs(8_000, 5_000, 1), _pairs(8_000, 5_000, 2)], [_pairs(8_000, 3, 1), _pairs(8_000, 3, 2)]
    one = [[[("k", number) for number in range(start, start + 1000)] for start in range(0, 20_000, 1000)], []]
    texts = [[[f"record {number * 7919 % 30_011}" for number in range(start, start + 500)] for start in
              range(0, 8_000, 500)] for _ in range(2)]  # fmt: skip

    def groups(got: dict[int, list[Any]]) -> Any:
        return {key: Counter(values) for records in got.values() for key, values in records}

    def in_order(got: dict[int, list[Any]]) -> Any:
        return {target: [(key, list(values)) for key, values in records] for target, records in got.items()}

    def pairs(got: dict[int, list[Any]]) -> Any:
        return {target: bag(records) for target, records in got.items()}

    def exchange(name: str, feeds: Any, inputs: tuple[int, ...] = (), **options: Any) -> Exchange:
        sources = tuple(number % 2 for number in range(len(feeds)))
        return Exchange(name=name, sources=sources, targets=(0, 1), feeds=feeds, options=options, inputs=inputs)

    sides = [_pairs(5_000, 3_000, 1), _pairs(5_000, 4_000, 2)]
    skewed = [[[("k", f"left {number}") for number in range(300)]] * 20, [[("k", number) for number in range(5)]] * 2]
    return [
        Case("groups", exchange("keyed_gather", many), groups),
        Case("groups in order", exchange("keyed_gather", many, order=True, ordered=True), in_order),
        Case("few large groups", exchange("keyed_gather", few), groups),
        Case("one group", exchange("keyed_gather", one, ordered=True), in_order),
        Case("pairs", exchange("keyed_gather", many, grouped=False, order=lambda key: -key), pairs),
        *(
            Case(f"{how} join by {algorithm}", exchange("join", sides, (1, 1), how=how, algorithm=algorithm), pairs)
            for how, algorithm in (
                ("inner", "hash"),
                ("left", "sort"),
                ("right", "hash"),
                ("full", "sort"),
                ("semi", "hash"),
                ("anti", "sort"),
            )
        ),
        Case("join of one key", exchange("join", skewed, (1, 1)), pairs),
        Case("keyed_reduce", exchange("keyed_reduce", many, reducer=max), pairs),
        Case("count_by_value", exchange("count_by_value", texts), pairs),
        Case("partition in order", exchange("partition", texts, partitioner="round_robin", ordered=True), dict),
        Case("ranges", exchange("partition", texts, partitioner="range"), pairs),
    ]


@contextlib.contextmanager
def small_disk(mebibytes: int) -> Iterator[str]:
    """A folder on a disk of this size. Skips the test where this user may not mount one."""
    with tempfile.TemporaryDirectory(prefix="t2-disk-") as folder:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", folder],
            capture_output=True,
            timeout=10,
            check=False,
        )
        if mounted.returncode:
            pytest.skip(f"cannot mount a small disk: {mounted.stderr.decode().strip()}")
        try:
            yield folder
        finally:
            subprocess.run(["umount", "-l", folder], timeout=10, check=True)


class SpillChecks(OperatorChecks):
    """What operators do when memory gets short."""

    def held(self, exchange: Exchange) -> tuple[dict[int, list[Any]], list[MemoryUse], list[MemoryUse]]:
        """Run an exchange; records by target, and how memory was used on each worker, at the end and once closed."""
        config = NetworkConfig(window_messages=2, window_mb=1, form_deadline_s=10)
        cluster = LocalCluster(
            exchange.n_workers, self.transport, network=config, memory_bytes=exchange.memory_bytes,
            spill_dirs=exchange.spill_dirs, deadline_s=max(self.deadline_s, 30.0),
        )  # fmt: skip

        def worker(env: LocalEnv) -> tuple[dict[int, list[Any]], MemoryUse, MemoryUse]:
            with env.network.step("exchange", exchange.name) as step:
                operator = self.make_operators().create(context_of(exchange, env, step))
                try:
                    got = drive(operator, env, exchange)
                    use = env.memory.use()
                finally:
                    operator.close()
            return {target: flat(items) for target, items in got.items()}, use, env.memory.use()

        parts = cluster.run(worker)
        got = {target: records for part, _, _ in parts for target, records in part.items()}
        return got, [use for _, use, _ in parts], [after for _, _, after in parts]

    def open_cases(self) -> list[Case]:
        """The cases whose operators the catalogue has; at least one."""
        found = [case for case in cases() if self.capabilities.is_open(case.exchange.name)]
        if not self.capabilities.is_open("ranges"):
            found = [case for case in found if case.name != "ranges"]
        if not found:
            pytest.skip("capability spills: no operator that holds records is open")
        return found

    @needs("spills")
    def test_what_does_not_fit_into_memory_goes_to_disk(self) -> None:
        for case in self.open_cases():
            expected, plain, _ = self.held(case.exchange)
            got, used, after = self.held(attrs.evolve(case.exchange, memory_bytes=BUDGET // 4))
            assert case.look(got) == case.look(expected), f"{case.name}: another answer when memory is short"
            assert all(use.spilled == 0 for use in plain), case.name
            assert any(use.spilled > 0 for use in used), f"{case.name}: nothing was spilled"
            assert all(use.peak <= BUDGET // 4 for use in used), f"{case.name}: more memory than there is"
            assert all(use.reserved == 0 for use in after), f"{case.name}: memory is held after the end"

    @needs("spills", "keyed_gather")
    def test_reference_when_memory_is_short(self) -> None:
        feeds = [_pairs(10_000, 700, 1), _pairs(10_000, 700, 2)]
        exchange = Exchange(
            name="keyed_gather", sources=(0, 1), targets=(0, 1), feeds=feeds, memory_bytes=BUDGET // 4,
            options={"ordered": True},
        )  # fmt: skip
        got, _, _ = self.held(exchange)
        found = {key: list(values) for records in got.values() for key, values in records}
        assert found == grouped(everything(feeds))

    @needs("spills", "join")
    def test_reference_of_joins_when_memory_is_short(self) -> None:
        sides = [_pairs(8_000, 4_000, 1), _pairs(6_000, 4_500, 2)]
        for how in ("inner", "full"):
            exchange = Exchange(
                name="join", sources=(0, 1), targets=(0, 1), feeds=sides, inputs=(1, 1), memory_bytes=BUDGET // 4,
                options={"how": how},
            )  # fmt: skip
            got, used, _ = self.held(exchange)
            assert any(use.spilled for use in used)
            found = bag([record for records in got.values() for record in records])
            assert found == bag(joined(everything(sides[:1]), everything(sides[1:]), how))

    @needs("spills", "join", "keyed_gather", "arrow")
    def test_columns_when_memory_is_short(self) -> None:
        pyarrow = pytest.importorskip("pyarrow")

        def batch(n: int, n_keys: int, seed: int) -> Any:
            keys = [None if number % 50 == 0 else (number * 7919 + seed) % n_keys for number in range(n)]
            return pyarrow.RecordBatch.from_pydict(
                {"k": keys, "v": [f"value {number} of {seed}" for number in range(n)]}
            )

        left, right = batch(6_000, 4_000, 1), batch(5_000, 4_500, 2)
        feeds = [[one.slice(start, 250) for start in range(0, len(one), 250)] for one in (left, right)]
        for name, inputs, options in (
            ("join", (1, 1), {"how": "full"}),
            ("join", (1, 1), {"how": "inner", "algorithm": "sort"}),
            ("keyed_gather", (), {"grouped": True, "ordered": True}),
            ("keyed_gather", (), {"grouped": False}),
        ):
            exchange = Exchange(
                name=name, sources=(0, 1), targets=(0, 1), feeds=feeds, inputs=inputs, options=options,
            )  # fmt: skip
            expected, _, _ = self.held(exchange)
            got, used, after = self.held(attrs.evolve(exchange, memory_bytes=BUDGET // 8))
            assert any(use.spilled for use in used), (name, options)
            assert all(use.peak <= BUDGET // 8 for use in used)
            assert {target: bag(rows) for target, rows in got.items()} == {
                target: bag(rows) for target, rows in expected.items()
            }, (name, options)
            assert all(use.reserved == 0 for use in after)

    @pytest.mark.needs_mount
    @needs("spills", "keyed_gather")
    def test_a_full_disk_is_a_clear_error(self) -> None:
        feeds = [_pairs(30_000, 20_000, 1), _pairs(30_000, 20_000, 2)]
        with small_disk(1) as folder:
            exchange = Exchange(
                name="keyed_gather", sources=(0, 1), targets=(0, 1), feeds=feeds, memory_bytes=BUDGET // 4,
                spill_dirs=(folder,),
            )  # fmt: skip
            with pytest.raises(SpillError) as caught:
                self.held(exchange)
            for part in (folder, "job.spill_dirs", "keyed_gather"):
                assert part in str(caught.value)
            assert os.listdir(folder) == []

    @needs("spills", "keyed_gather")
    def test_one_record_that_is_too_large_is_a_clear_error(self) -> None:
        exchange = Exchange(
            name="keyed_gather", sources=(0,), targets=(0,), feeds=[[[("k", "x" * (BUDGET // 2))]]],
            memory_bytes=BUDGET // 4,
        )  # fmt: skip
        with pytest.raises(MemoryBudgetError) as caught:
            self.held(exchange)
        assert "keyed_gather" in str(caught.value)
        assert caught.value.remedy

    @needs("spills", "keyed_gather", "join", "keyed_reduce")
    def test_state_at_a_barrier_is_restored_from_disk_too(self) -> None:
        """What is held at a barrier is in the snapshot; another worker takes it back and goes on."""
        before, behind = _pairs(6_000, 4_000, 1), _pairs(1_000, 4_000, 2)
        barrier = Mark(HeaderKind.BARRIER, 1)
        shapes: list[tuple[str, tuple[int, ...], dict[str, Any]]] = [
            ("keyed_gather", (), {"ordered": True}),
            ("join", (1, 1), {"how": "full"}),
            ("keyed_reduce", (), {"reducer": max}),
        ]
        for name, inputs, options in shapes:
            n = 2 if inputs else 1
            for memory in (0, BUDGET // 4):
                whole = Exchange(
                    name=name, sources=(0,) * n, targets=(0,), feeds=[[*before, *behind]] * n, inputs=inputs,
                    options=options,
                )  # fmt: skip
                first = attrs.evolve(whole, feeds=[[*before, barrier]] * n, memory_bytes=memory)
                second = attrs.evolve(whole, feeds=[behind] * n, memory_bytes=memory)
                expected, _, _ = self.held(whole)
                state = self._state(first)
                got = self._resumed(second, state)
                assert _readable(got) == _readable(expected[0]), (name, memory)

    def _state(self, exchange: Exchange) -> bytes:
        """What is held once the barrier has come."""

        def worker(env: LocalEnv) -> bytes:
            with env.network.step("exchange", exchange.name) as step:
                operator = self.make_operators().create(context_of(exchange, env, step))
                try:
                    feeds: dict[int, deque[Any]] = _deques(exchange)
                    seen: list[Any] = []

                    def at_the_barrier() -> bool:
                        moved = True
                        while moved and not seen:
                            before = sum(map(len, feeds.values()))
                            for source, feed in feeds.items():
                                if feed:
                                    feed_one(operator, source, feed)
                            moved = operator.progress() or sum(map(len, feeds.values())) < before
                            item = operator.receive(0)
                            if item is not None:
                                seen.append(item)
                        return bool(seen)

                    env.network.wait_until(at_the_barrier, "the barrier", self.deadline_s)
                    assert seen[0].kind == HeaderKind.BARRIER
                    return operator.snapshot() or b""
                finally:
                    operator.close()

        state: bytes = self._on_one(exchange, worker)
        return state

    def _resumed(self, exchange: Exchange, state: bytes) -> list[Any]:
        def worker(env: LocalEnv) -> list[Any]:
            with env.network.step("exchange", exchange.name) as step:
                operator = self.make_operators().create(context_of(exchange, env, step))
                try:
                    operator.restore(state)
                    return flat(drive(operator, env, exchange)[0])
                finally:
                    operator.close()

        records: list[Any] = self._on_one(exchange, worker)
        return records

    def _on_one(self, exchange: Exchange, worker: Callable[[LocalEnv], Any]) -> Any:
        cluster = LocalCluster(1, self.transport, memory_bytes=exchange.memory_bytes, deadline_s=self.deadline_s)
        return cluster.run(worker)[0]


def _deques(exchange: Exchange) -> dict[int, deque[Any]]:
    return {source: deque(feed) for source, feed in enumerate(exchange.feeds)}


def _readable(records: list[Any]) -> Any:
    """Records in any order, groups by what is in them."""
    return bag([(key, list(value) if hasattr(value, "__iter__") and not isinstance(value, (str, tuple)) else value)
                for key, value in records])  # fmt: skip
