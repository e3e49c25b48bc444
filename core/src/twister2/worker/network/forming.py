"""Bringing up the network of an attempt: one transport after the other, until every pair of workers has one."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from twister2.spec.errors import MemoryBudgetError, NetworkError
from twister2.worker.network.network import WorkerNetwork

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from twister2.config.job import NetworkConfig
    from twister2.spec.comm import Transport
    from twister2.spec.memory import MemoryService
    from twister2.worker.link import Link

_NONE = 255
"""No transport yet."""


def form_network(
    link: Link,
    transports: Sequence[tuple[str, Callable[[], Transport]]],
    size: int,
    config: NetworkConfig,
    *,
    memory: MemoryService | None = None,
    hosts: Mapping[int, str] | None = None,
    heartbeat_s: float = 1.0,
) -> WorkerNetwork:
    """Form the network; called by all workers of the attempt.

    A pair of workers uses the first transport that works between them in both directions. Those after it are not asked
    for that pair, and not even made when no pair is left: plugins take time to load, connections are descriptors.

    :param transports: names and what makes the backends, in the job's order of preference. Closed again on failure.
    :param size: number of workers.
    :param memory: where received bytes are counted.
    :param hosts: host by worker id: for error texts and sub-groups by host.
    :param heartbeat_s: how often the job master hears of all workers.
    :raises NetworkError: two workers cannot reach each other over any of the transports; names them.
    :raises DeadlineError: a worker did not take part within ``config.form_deadline_s``.
    """
    deadline = time.monotonic() + config.form_deadline_s
    me = link.worker_id
    pairs = Pairs(size, [name for name, _ in transports])
    opened: dict[int, Transport] = {}

    def progress() -> None:
        # others may still be probing: what they hear of this worker is for its transports to say
        for transport in opened.values():
            transport.progress()

    try:
        for number, (name, make) in enumerate(transports):
            if not pairs.missing:
                break
            transport = opened[number] = make()
            if memory is not None:
                _limit(name, transport, memory)
            address = dict(transport.open())
            addresses = link.exchange("network", f"addresses#{name}", address, _left(deadline))
            asked = {worker for pair in pairs.missing if me in pair for worker in pair if worker != me}
            transport.connect({worker: addresses[worker] for worker in sorted({me, *asked})})
            reached = _probe(link, transport, asked, deadline)
            pairs.settle(number, link.exchange("network", f"reached#{name}", reached, _left(deadline), progress))
        if pairs.missing:
            raise _unreachable(pairs, hosts or {})
        routes = {peer: opened[pairs.route(me, peer)] for peer in range(size) if peer != me}
    except BaseException:
        _close_all(opened.values())
        raise
    used = {id(transport) for transport in routes.values()}
    _close_all(transport for transport in opened.values() if id(transport) not in used)
    kept = [transport for transport in opened.values() if id(transport) in used]
    return WorkerNetwork(link, size, routes, kept, config, memory, hosts, pairs, heartbeat_s)


class Pairs:
    """Which transport each pair of workers uses; the same on all workers.

    :ivar names: of the transports, in the job's order of preference.
    :ivar missing: pairs that have none yet, the smaller id first.
    """

    def __init__(self, size: int, names: Sequence[str]) -> None:
        self.names = list(names)
        self.missing = [(one, other) for one in range(size) for other in range(one + 1, size)]
        self._routes = [bytearray([_NONE]) * size for _ in range(size)]

    def settle(self, number: int, reached: Sequence[Collection[int]]) -> None:
        """A transport was tried between the pairs that were missing.

        :param reached: by worker: those that it reaches.
        """
        told = [frozenset(each) for each in reached]
        missing = []
        for one, other in self.missing:
            if other in told[one] and one in told[other]:
                self._routes[one][other] = self._routes[other][one] = number
            else:
                missing.append((one, other))
        self.missing = missing

    def name(self, one: int, other: int) -> str:
        """Name of the transport between two workers."""
        return self.names[self.route(one, other)]

    def route(self, one: int, other: int) -> int:
        """Index of the transport between two workers, in the job's order of preference."""
        return self._routes[one][other]

    def common(self, members: Sequence[int]) -> int | None:
        """Index of the transport between all of them; None when there are several, or fewer than two workers."""
        found: int | None = None
        for at, one in enumerate(members):
            for other in members[:at]:
                route = self.route(one, other)
                if found is None:
                    found = route
                elif route != found:
                    return None
        return found


def _limit(name: str, transport: Transport, memory: MemoryService) -> None:
    """Tell a transport what memory the worker has, and take what it will use off the budget."""
    use = memory.use()
    wanted = transport.limit_memory(use.limit) if use.limit else 0
    if wanted:
        with suppress(MemoryBudgetError):  # then it has less than it says: its messages are counted as they come
            memory.reserve(f"comm {name}: buffers", wanted)


def _left(deadline: float) -> float:
    return max(0.001, deadline - time.monotonic())


def _probe(link: Link, transport: Transport, asked: Collection[int], deadline: float) -> list[int]:
    """Those of the asked workers that the transport reaches."""
    reached: list[int] = []
    waiting = set(asked)
    pause = 0.0
    while waiting:
        link.raise_if_aborted()
        moved = transport.progress()
        for peer in sorted(waiting):
            answer = transport.reaches(peer)
            if answer is None:
                continue
            moved = True
            waiting.discard(peer)
            if answer:
                reached.append(peer)
        if waiting and not moved:
            if time.monotonic() > deadline:
                break  # what has not answered by now does not reach
            time.sleep(pause)
            pause = min(0.005, pause + 0.0002)
    return sorted(reached)


def _unreachable(pairs: Pairs, hosts: Mapping[int, str]) -> NetworkError:
    missing = pairs.missing
    shown = ", ".join(f"{_name(one, hosts)} and {_name(other, hosts)}" for one, other in missing[:8])
    more = f" and {len(missing) - 8} more pairs" if len(missing) > 8 else ""
    return NetworkError(
        f"workers cannot reach each other: {shown}{more}",
        why=f"none of the transports {pairs.names} works between them in both directions",
        remedy="check firewalls and the transport's interface option, or add a transport to job.comm",
        details={"pairs": [list(pair) for pair in missing[:1000]], "transports": pairs.names},
    )


def _name(worker: int, hosts: Mapping[int, str]) -> str:
    host = hosts.get(worker)
    return f"{worker} ({host})" if host else str(worker)


def _close_all(transports: Iterable[Transport]) -> None:
    for transport in transports:
        _quietly(transport.close)


def _quietly(close: Callable[[], None]) -> None:
    try:
        close()
    except Exception:
        return  # a transport that nobody uses
