"""Driving operators by hand, as an executor would: feed sources, progress, take items, until complete."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import attrs

from twister2.config.job import NetworkConfig
from twister2.spec.channel import HeaderKind, Item
from twister2.spec.ops import Operator, OperatorContext, Operators
from twister2_testkit.fakes import LocalCluster, LocalEnv

if TYPE_CHECKING:
    from twister2.spec.network import Step

Feed = Sequence[Any]
"""What a source sends: batches and :class:`Mark`."""


@attrs.frozen
class Mark:
    """A mark in a feed."""

    kind: HeaderKind
    value: Any = None


@attrs.frozen(kw_only=True)
class Exchange:
    """One exchange to try.

    :ivar name: operator. :ivar sources, targets: worker id per task. :ivar feeds: what each source sends, by index.
    :ivar options: of the operator. :ivar window: batches a channel may have under way. :ivar window_mb: likewise MiB.
    :ivar runs: how often it is run, reset in between. :ivar mode: ``"batch"`` or ``"stream"``.
    :ivar memory_bytes: budget of each worker, 0 for any; :ivar spill_dirs: where it may spill to, a temporary folder
        when empty.
    :ivar inputs: source tasks of each input, empty for one input. :ivar workers: at least so many workers, with or
        without tasks.
    """

    name: str
    sources: tuple[int, ...]
    targets: tuple[int, ...]
    feeds: Sequence[Feed]
    options: Mapping[str, Any] = attrs.field(factory=dict)
    window: int = 4
    window_mb: int = 1
    runs: int = 1
    mode: Literal["batch", "stream"] = "batch"
    inputs: tuple[int, ...] = ()
    workers: int = 1
    memory_bytes: int = 0
    spill_dirs: tuple[str, ...] = ()

    @property
    def n_workers(self) -> int:
        return max(max((*self.sources, *self.targets)) + 1, self.workers)


def context_of(exchange: Exchange, env: LocalEnv, step: Step) -> OperatorContext:
    """The context of an exchange's operator on one worker."""
    return OperatorContext(
        exchange.name, 3, "tested", exchange.sources, exchange.targets, exchange.options, exchange.mode, step,
        env.network, env.memory, exchange.inputs,
    )  # fmt: skip


def run_exchange(
    make: Callable[[], Operators], exchange: Exchange, *, transport: str = "inproc", deadline_s: float = 20.0
) -> list[dict[int, list[Item]]]:
    """Run an exchange on as many workers as it names; per run, all items by target."""
    config = NetworkConfig(window_messages=exchange.window, window_mb=exchange.window_mb, form_deadline_s=10)
    cluster = LocalCluster(
        exchange.n_workers, transport, network=config, memory_bytes=exchange.memory_bytes,
        spill_dirs=exchange.spill_dirs, deadline_s=deadline_s,
    )  # fmt: skip

    def worker(env: LocalEnv) -> list[dict[int, list[Item]]]:
        operator: Operator | None = None
        runs = []
        try:
            for _ in range(exchange.runs):
                with env.network.step("exchange", exchange.name) as step:
                    if operator is None:
                        operator = make().create(context_of(exchange, env, step))
                    else:
                        operator.reset(step)
                    runs.append(drive(operator, env, exchange))
        finally:
            if operator is not None:
                operator.close()
                operator.close()
        return runs

    parts = cluster.run(worker)
    return [
        {target: items for part in parts for target, items in part[number].items()} for number in range(exchange.runs)
    ]


def drive(
    operator: Operator, env: LocalEnv, exchange: Exchange, note: Callable[[int, Item], None] | None = None
) -> dict[int, list[Item]]:
    """Feed the local sources and take everything for the local targets; ``note`` sees each item at once."""
    me = env.worker_id
    feeds = {source: deque(exchange.feeds[source]) for source, worker in enumerate(exchange.sources) if worker == me}
    items: dict[int, list[Item]] = {target: [] for target, worker in enumerate(exchange.targets) if worker == me}

    def advance() -> bool:
        moved = True
        while moved:
            moved = False
            for source in list(feeds):
                left = len(feeds[source])
                if feed_one(operator, source, feeds[source]):
                    del feeds[source]
                    moved = True
                elif len(feeds[source]) < left:
                    moved = True
            moved = operator.progress() or moved
            for target, got in items.items():
                while (item := operator.receive(target)) is not None:
                    got.append(item)
                    if note is not None:
                        note(target, item)
                    moved = True
        return operator.is_complete

    env.network.wait_until(advance, f"{exchange.name} to complete")
    return items


def feed_one(operator: Operator, source: int, feed: deque[Any]) -> bool:
    """Offer the next thing of a feed; True once the source has finished."""
    if not feed:
        operator.finish(source)
        operator.finish(source)
        return True
    first = feed[0]
    if isinstance(first, Mark):
        operator.mark(source, first.kind, first.value)
        feed.popleft()
    elif operator.send(source, first):
        feed.popleft()
    return False


def batches(items: Sequence[Item]) -> list[Any]:
    """The batches among items."""
    return [item.value for item in items if item.kind == HeaderKind.DATA]


def flat(items: Sequence[Item]) -> list[Any]:
    """All records among items, as Python objects."""
    found: list[Any] = []
    for batch in batches(items):
        found += batch.to_pylist() if hasattr(batch, "to_pylist") else list(batch)
    return found


def check_ends(received: Mapping[int, Sequence[Item]]) -> None:
    """END came exactly once for every target, last."""
    for target, items in received.items():
        ends = [index for index, item in enumerate(items) if item.kind == HeaderKind.END]
        assert ends == [len(items) - 1], f"target {target} got END at {ends} of {len(items)} items"
        assert all(item.target == target for item in items), f"target {target} got items of other targets"
