"""An attempt in memory, for tests of executors: N workers in N threads, with networks that count and refuse.

Nothing here is fast or general: one lock, credits of a few batches per channel, and an abort that reaches everybody.
No transport and no plugin takes part, so that a failing test of an executor is the executor's failure.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from twister2.spec.batch import n_records
from twister2.spec.channel import HeaderKind
from twister2.spec.environment import NodeFacts, WorkerInfo
from twister2.spec.errors import CapabilityError, DeadlineError, NetworkError, StepAbortedError
from twister2.spec.executor import ExecutorContext
from twister2.spec.memory import MemoryService, MemoryUse, Reservation
from twister2.spec.network import Delivery, EdgeCounters, Fingerprint, Group, Network, Port, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from twister2.spec.collectives import Collectives, Request

T = TypeVar("T")

DEADLINE_S = 20.0


@attrs.define
class FreeReservation(Reservation):
    """A reservation in a budget without bounds."""

    name: str
    held: int = 0

    @property
    def size(self) -> int:
        """Bytes held."""
        return self.held

    def resize(self, size: int) -> None:
        """Hold ``size`` bytes."""
        self.held = size

    def release(self) -> None:
        """Hold nothing."""
        self.held = 0


class FreeMemory(MemoryService):
    """A memory service that never refuses."""

    def __init__(self) -> None:
        self.reservations: list[FreeReservation] = []

    def reserve(self, name: str, size: int = 0, *, revoke: Callable[[int], int] | None = None) -> Reservation:
        """Open a reservation."""
        self.reservations.append(FreeReservation(name, size))
        return self.reservations[-1]

    def use(self) -> MemoryUse:
        """What is held, by reservation."""
        holders = tuple((reservation.name, reservation.held) for reservation in self.reservations)
        total = sum(held for _, held in holders)
        return MemoryUse(1 << 40, 0, total, total, holders)


class World:
    """The attempt.

    :param n_workers: number of workers. :param window: batches a channel may have under way.
    """

    def __init__(self, n_workers: int, window: int = 4) -> None:
        self.n_workers = n_workers
        self.window = window
        self.changed = threading.Condition()
        self.cause: tuple[int, BaseException] | None = None
        self.arrived: dict[tuple[int, int, int], deque[Delivery]] = {}
        """By (step, edge, target task)."""
        self.under_way: dict[tuple[int, int, int, int], int] = {}
        """Batches without credit by (step, edge, source, target)."""
        self.given: dict[int, dict[int, Any]] = {}
        """What was given to collective call k, by worker."""
        self.news = [0] * n_workers
        self.infos = tuple(WorkerInfo(worker, worker, NodeFacts(f"host{worker}")) for worker in range(n_workers))
        self.networks = [WorldNetwork(self, worker) for worker in range(n_workers)]

    def abort(self, worker_id: int, cause: BaseException) -> None:
        """End the attempt for everybody; the first cause stays."""
        with self.changed:
            self.cause = self.cause or (worker_id, cause)
            self.changed.notify_all()

    def check(self, worker_id: int) -> None:
        """Raise when the attempt was aborted."""
        if self.cause is not None:
            culprit, cause = self.cause
            raise StepAbortedError(
                f"worker {culprit} failed: {cause}",
                why=repr(cause),
                remedy="see the cause",
                where=f"worker {worker_id}",
            )

    def tell(self, workers: Sequence[int]) -> None:
        """Wake workers; the lock is held."""
        for worker in workers:
            self.news[worker] += 1
        self.changed.notify_all()

    def context(self, worker_id: int, operators: Callable[[str], Any], threads: int = 2) -> ExecutorContext:
        """What an executor of this worker is made with; reports are dropped."""
        return ExecutorContext(
            worker_id=worker_id,
            n_workers=self.n_workers,
            attempt=1,
            job_id="world",
            threads=threads,
            network=self.networks[worker_id],
            memory=FreeMemory(),
            log=logging.getLogger("twister2.testkit.world"),
            operators=operators,
            backend=lambda kind, name: None,
            report=lambda counters: None,
        )

    def run(self, work: Callable[[int], T], deadline_s: float = DEADLINE_S) -> list[T | BaseException]:
        """Call ``work(worker_id)`` in a thread per worker; what each returned or raised.

        :raises AssertionError: a worker has not come back within the deadline.
        """
        ends: list[Any] = [None] * self.n_workers

        def one(worker_id: int) -> None:
            try:
                ends[worker_id] = work(worker_id)
            except BaseException as error:  # whatever ends a worker is the test's to look at
                ends[worker_id] = error
                self.abort(worker_id, error)

        threads = [threading.Thread(target=one, args=(worker,), daemon=True) for worker in range(self.n_workers)]
        end = time.monotonic() + deadline_s
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        late = [worker for worker, thread in enumerate(threads) if thread.is_alive()]
        if late:
            self.abort(-1, TimeoutError("the test's deadline"))
            for thread in threads:
                thread.join(1.0)
            raise AssertionError(f"workers {late} hang: not back after {deadline_s} s")
        return ends


class WorldStep(Step):
    """A step of the world."""

    def __init__(self, network: WorldNetwork, number: int, fingerprint: Fingerprint) -> None:
        self.network, self.number, self.fingerprint = network, number, fingerprint
        self.group = network.world

    def __enter__(self) -> Step:
        return self

    def __exit__(self, *exc: object) -> None:
        if isinstance(exc[1], BaseException) and not isinstance(exc[1], StepAbortedError):
            self.network.attempt_world.abort(self.network.worker_id, exc[1])


class WorldPort(Port):
    """The channels of one edge."""

    def __init__(
        self, network: WorldNetwork, step: Step, edge: int, sources: Sequence[int], targets: Sequence[int]
    ) -> None:
        self.sources, self.targets = sources, targets
        self.counters = EdgeCounters()
        self._network, self._world = network, network.attempt_world
        self._key = (step.number, edge)

    def send(self, source: int, target: int, kind: HeaderKind, value: Any = None, *, last: bool = False) -> bool:
        """Queue a batch or a mark; with the last batch END."""
        assert self.sources[source] == self._network.worker_id, "a foreign source sends"
        with self._world.changed:
            if kind is HeaderKind.DATA:
                if not self._has_credit(source, target):
                    return False
                channel = (*self._key, source, target)
                self._world.under_way[channel] = self._world.under_way.get(channel, 0) + 1
                self.counters.records_sent += n_records(value) if hasattr(value, "__len__") else 1
                self.counters.messages_sent += 1
            count = n_records(value) if kind is HeaderKind.DATA and hasattr(value, "__len__") else 0
            self._world.arrived.setdefault((*self._key, target), deque()).append(
                Delivery(source, target, kind, value, count)
            )
            if last:
                self._world.arrived[*self._key, target].append(Delivery(source, target, HeaderKind.END, None, 0))
            self._world.tell([self.targets[target]])
        return True

    def _has_credit(self, source: int, target: int) -> bool:
        return self._world.under_way.get((*self._key, source, target), 0) < self._world.window

    def can_send(self, source: int, target: int) -> bool:
        """Whether the channel has credit."""
        with self._world.changed:
            return self._has_credit(source, target)

    def receive(self, target: int | None = None, skip: Container[int] = ()) -> Delivery | None:
        """The next message; grants credit."""
        mine = [index for index, worker in enumerate(self.targets) if worker == self._network.worker_id]
        with self._world.changed:
            for index in mine if target is None else [target]:
                waiting = self._world.arrived.get((*self._key, index), deque())
                delivery = next((found for found in waiting if found.source not in skip), None)
                if delivery is not None:
                    waiting.remove(delivery)
                    if delivery.kind is HeaderKind.DATA:
                        self._world.under_way[(*self._key, delivery.source, index)] -= 1
                        self.counters.records_received += delivery.n_records
                    self._world.tell([self.sources[delivery.source]])
                    return delivery
        return None

    def close(self) -> None:
        """Nothing is held."""


class WorldNetwork(Network):
    """One worker's network."""

    def __init__(self, world: World, worker_id: int) -> None:
        self.worker_id, self.attempt = worker_id, 1
        self.world = Group(0, tuple(range(world.n_workers)))
        self.attempt_world = world
        self._seen = 0
        self._steps = 0
        self._calls = 0

    def step(self, kind: str, shape: str = "", *, group: Group | None = None, line: str | None = None) -> Step:
        """Begin the next step."""
        self.attempt_world.check(self.worker_id)
        self._steps += 1
        return WorldStep(self, self._steps, Fingerprint(kind, shape, line or ""))

    def open_port(self, step: Step, edge: int, sources: Sequence[int], targets: Sequence[int]) -> Port:
        """Open the channels of an edge."""
        return WorldPort(self, step, edge, sources, targets)

    def progress(self) -> bool:
        """Whether anything has arrived or been credited since the last call."""
        world = self.attempt_world
        with world.changed:
            world.check(self.worker_id)
            moved = world.news[self.worker_id] != self._seen
            self._seen = world.news[self.worker_id]
        return moved

    def wait(self, timeout_s: float) -> None:
        """Sleep until something arrives, an abort, or the time is over."""
        world = self.attempt_world
        with world.changed:
            world.changed.wait_for(
                lambda: world.news[self.worker_id] != self._seen or world.cause is not None, timeout_s
            )
            world.check(self.worker_id)

    def wait_until(
        self, ready: Callable[[], bool], what: str, deadline_s: float | None = None, *, step: Step | None = None
    ) -> None:
        """Progress and wait until ``ready()``."""
        end = time.monotonic() + (DEADLINE_S if deadline_s is None else deadline_s)
        while not ready():
            if time.monotonic() > end:
                raise DeadlineError(f"waited for {what}", why="the deadline passed", remedy="see the others")
            self.progress()
            self.wait(0.05)

    def broadcast_object(self, value: Any, root: int = 0, *, group: Group | None = None, what: str = "") -> Any:
        """The root's object on all workers."""
        return self.exchange_objects(value if self.worker_id == root else None, what=what)[root]

    def exchange_objects(self, value: Any, *, group: Group | None = None, what: str = "") -> list[Any]:
        """Everybody's object."""
        world = self.attempt_world
        self._calls += 1
        with world.changed:
            given = world.given.setdefault(self._calls, {})
            given[self.worker_id] = value
            world.changed.notify_all()
            came = world.changed.wait_for(lambda: len(given) == world.n_workers or world.cause is not None, DEADLINE_S)
            if len(given) < world.n_workers:
                world.check(self.worker_id)
            if not came:
                raise DeadlineError(f"waited for {what}", why=f"only {sorted(given)} came", remedy="see the others")
        return [given[worker] for worker in range(world.n_workers)]

    def split(self, color: int | str | None, *, group: Group | None = None) -> Group | None:
        """Sub-groups by colour."""
        colors = self.exchange_objects(color, what="split")
        members = tuple(worker for worker, other in enumerate(colors) if other == color)
        return None if color is None else Group(1, members)

    def group(self, members: Sequence[int]) -> Group:
        """The sub-group of these workers."""
        ids = tuple(members)
        if len(set(ids)) < len(ids) or self.worker_id not in ids or not set(ids) <= set(self.world.members):
            raise NetworkError(
                f"{ids} is no group of worker {self.worker_id}",
                why=f"a group has different ids of 0 to {self.world.size - 1}, this worker's among them",
                remedy="call it on members only, with their ids",
            )
        return Group(1, ids)

    def collectives(self, group: Group | None = None) -> Collectives:
        """Executors need none; the core's own network has them."""
        raise _not_here("collectives")

    def keep_open(
        self, step: Step, advance: Callable[[], bool], what: str, *, polled: bool = False, lasting: bool = True
    ) -> Request:
        """Executors leave no step open."""
        raise _not_here("steps that stay open")

    def split_by_host(self, *, group: Group | None = None) -> Group:
        """All threads are on one host."""
        return group or self.world

    def empty_shared(self, shape: int | Sequence[int], dtype: Any = "float64") -> Any:
        """An ordinary array."""
        import numpy

        return numpy.empty(shape, dtype)


def _not_here(what: str) -> CapabilityError:
    return CapabilityError(
        f"this network of the test kit has no {what}",
        why="it moves the batches of an executor's edges only",
        remedy="test what needs them with LocalCluster (twister2_testkit.fakes)",
    )
