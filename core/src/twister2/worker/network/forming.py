"""Bringing up the network of an attempt: open transports, exchange addresses, probe, choose one transport per pair."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from twister2.spec.errors import NetworkError
from twister2.worker.network.network import WorkerNetwork

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from twister2.config.job import NetworkConfig
    from twister2.spec.comm import Transport
    from twister2.spec.memory import MemoryService
    from twister2.worker.link import Link


def form_network(
    link: Link,
    transports: Sequence[tuple[str, Transport]],
    size: int,
    config: NetworkConfig,
    *,
    memory: MemoryService | None = None,
    hosts: Mapping[int, str] | None = None,
    heartbeat_s: float = 1.0,
) -> WorkerNetwork:
    """Form the network; called by all workers of the attempt.

    :param transports: names and backends in the job's order of preference; not opened yet. Closed again on failure.
    :param size: number of workers.
    :param memory: where received bytes are counted.
    :param hosts: host by worker id: for error texts and sub-groups by host.
    :param heartbeat_s: how often the job master hears of all workers.
    :raises NetworkError: two workers cannot reach each other over any of the transports; names them.
    :raises DeadlineError: a worker did not take part within ``config.form_deadline_s``.
    """
    deadline = time.monotonic() + config.form_deadline_s
    try:
        mine = {name: dict(transport.open()) for name, transport in transports}
        everybody = link.exchange("network", "addresses", mine, _left(deadline))
        for name, transport in transports:
            transport.connect({peer: addresses[name] for peer, addresses in enumerate(everybody) if name in addresses})
        others = [peer for peer in range(size) if peer != link.worker_id]
        reached = _probe(link, transports, others, deadline)
        mine_reached = {str(peer): found for peer, found in reached.items()}
        # others may still be probing: what they hear of this worker is for its transports to say
        tables: list[Mapping[str, list[int]]] = link.exchange(
            "network", "reached", mine_reached, _left(deadline), lambda: [each.progress() for _, each in transports]
        )
        routes = _choose(link.worker_id, transports, others, tables, hosts or {})
    except BaseException:
        _close_all(transports)
        raise
    used = {id(transport) for transport in routes.values()}
    kept = [transport for _, transport in transports if id(transport) in used]
    _close_all([pair for pair in transports if id(pair[1]) not in used])
    pairs = Pairs(tables, [name for name, _ in transports])
    return WorkerNetwork(link, size, routes, kept, config, memory, hosts, pairs, heartbeat_s)


class Pairs:
    """Which transport each pair of workers uses; the same on all workers."""

    def __init__(self, tables: Sequence[Mapping[str, list[int]]], names: Sequence[str]) -> None:
        self._tables, self._names = tables, names

    def name(self, one: int, other: int) -> str:
        """Name of the transport between two workers."""
        return self._names[self.route(one, other)]

    def route(self, one: int, other: int) -> int:
        """Index of the transport between two workers, in the job's order of preference."""
        return min(set(self._tables[one][str(other)]) & set(self._tables[other][str(one)]))

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


def _left(deadline: float) -> float:
    return max(0.001, deadline - time.monotonic())


def _probe(
    link: Link, transports: Sequence[tuple[str, Transport]], others: Sequence[int], deadline: float
) -> dict[int, list[int]]:
    """By peer: indices of the transports that reach it, the preferred one first."""
    reached: dict[int, list[int]] = {}
    open_pairs = {(index, peer) for index in range(len(transports)) for peer in others}
    pause = 0.0
    while open_pairs:
        link.raise_if_aborted()
        moved = False
        for _, transport in transports:
            moved = transport.progress() or moved
        for index, peer in sorted(open_pairs):
            answer = transports[index][1].reaches(peer)
            if answer is None:
                continue
            moved = True
            open_pairs.discard((index, peer))
            if answer:
                reached.setdefault(peer, []).append(index)
        if open_pairs and not moved:
            if time.monotonic() > deadline:
                break  # what has not answered by now does not reach
            time.sleep(pause)
            pause = min(0.005, pause + 0.0002)
    return {peer: sorted(found) for peer, found in reached.items()}


def _choose(
    me: int,
    transports: Sequence[tuple[str, Transport]],
    others: Sequence[int],
    tables: Sequence[Mapping[str, list[int]]],
    hosts: Mapping[int, str],
) -> dict[int, Transport]:
    """The first transport of each pair that works in both directions. Every worker finds the same missing pairs."""
    missing = [
        (one, other)
        for one in range(len(tables))
        for other in range(one + 1, len(tables))
        if not set(tables[one].get(str(other), ())) & set(tables[other].get(str(one), ()))
    ]
    if missing:
        names = [name for name, _ in transports]
        shown = ", ".join(f"{_name(one, hosts)} and {_name(other, hosts)}" for one, other in missing[:8])
        more = f" and {len(missing) - 8} more pairs" if len(missing) > 8 else ""
        raise NetworkError(
            f"workers cannot reach each other: {shown}{more}",
            why=f"none of the transports {names} works between them in both directions",
            remedy="check firewalls and the transport's interface option, or add a transport to job.comm",
            details={"pairs": [list(pair) for pair in missing[:1000]], "transports": names},
        )
    routes = {}
    for peer in others:
        both = set(tables[me][str(peer)]) & set(tables[peer][str(me)])
        routes[peer] = transports[min(both)][1]
    return routes


def _name(worker: int, hosts: Mapping[int, str]) -> str:
    host = hosts.get(worker)
    return f"{worker} ({host})" if host else str(worker)


def _close_all(transports: Sequence[tuple[str, Any]]) -> None:
    for _, transport in transports:
        _quietly(transport.close)


def _quietly(close: Callable[[], None]) -> None:
    try:
        close()
    except Exception:
        return  # a transport that nobody uses
