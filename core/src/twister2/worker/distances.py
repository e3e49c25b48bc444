"""How far data is from each worker: measured, so that task schedulers need no configured topology.

Between two machines that have workers, one worker of each sends a MiB through the network that is formed anyway; pairs
take turns, so that no machine measures two at once. A host without workers is connected to, which takes a round trip
also when it refuses; a MiB is taken to be sixteen round trips (windows of 64 KiB). What came out is rounded to a power
of two, against noise, and exchanged, so that every worker plans with the same numbers. A host is measured once per
attempt.
"""

from __future__ import annotations

import math
import socket
import threading
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from twister2.spec.environment import WorkerController, WorkerInfo
    from twister2.spec.network import Network

PAYLOAD = 1 << 20
TRIES = 3
ROUND_TRIPS = 16
"""That a MiB takes to and from a host that is only connected to."""

_PORT = 9
"""Where a host is connected to when its name has no port: nobody listens there, and the refusal comes back at once."""

_TRY_S, _OUTSIDE_S = 0.5, 3.0
_AT_ONCE = 32


class DistancesEnvironment(Protocol):
    """What measuring needs of a worker's environment."""

    @property
    def worker_id(self) -> int:
        """Id of this worker."""

    @property
    def network(self) -> Network:
        """The worker's network."""

    @property
    def controller(self) -> WorkerController:
        """Who is there."""


class Distances:
    """Seconds per MiB from hosts of data to the workers of an attempt."""

    def __init__(self, env: DistancesEnvironment) -> None:
        self._env = env
        self._known: dict[str, dict[int, float]] = {}

    def __call__(self, hosts: Sequence[str]) -> Mapping[tuple[int, str], float]:
        """By (worker id, host). Collective when one of the hosts was not asked for before."""
        new = [host for host in hosts if host not in self._known]
        if new:
            self._measure(new)
        return {(worker, host): seconds for host in hosts for worker, seconds in self._known[host].items()}

    def _measure(self, hosts: Sequence[str]) -> None:
        machines = machines_of(self._env.controller.workers())
        place = {host: machine_of(host, machines) for host in hosts}
        mine: dict[tuple[int, int | str], float] = {}
        me = next(k for k, machine in enumerate(machines) if any(w.worker_id == self._env.worker_id for w in machine))
        data = {machine for machine in place.values() if machine is not None}
        for one, other in pairs(len(machines)):
            if me in (one, other) and (one in data or other in data):
                spent = self._to_machine(machines, one, other)
                if spent is not None:
                    mine[one, other] = mine[other, one] = spent
        outside = [host for host, machine in place.items() if machine is None]
        if machines[me][0].worker_id == self._env.worker_id:
            mine.update(((me, host), ROUND_TRIPS * spent) for host, spent in round_trips(outside).items())
        found: dict[tuple[int, int | str], float] = {}
        rounded = {key: power_of_two(seconds) for key, seconds in mine.items()}
        for measured in self._env.network.exchange_objects(rounded, what="distances"):
            for key, seconds in measured.items():
                found.setdefault(key, seconds)
        for host in hosts:
            at = place[host]
            self._known[host] = {
                worker.worker_id: 0.0 if at == k else found[k, host if at is None else at]
                for k, machine in enumerate(machines)
                if at == k or (k, host if at is None else at) in found
                for worker in machine
            }

    def _to_machine(self, machines: Sequence[Sequence[WorkerInfo]], one: int, other: int) -> float | None:
        """Between the first workers of two machines, in seconds; None on the others."""
        first, second = machines[one][0].worker_id, machines[other][0].worker_id
        if self._env.worker_id not in (first, second):
            return None
        network = self._env.network
        group = network.group([first, second])
        payload = bytes(PAYLOAD) if self._env.worker_id == first else b""
        spent = []
        for _ in range(TRIES):
            network.exchange_objects(None, group=group, what="distance: begin")
            begin = time.perf_counter()
            network.exchange_objects(payload, group=group, what="distance")
            spent.append(time.perf_counter() - begin)
        return _median(spent)


def machines_of(workers: Iterable[WorkerInfo]) -> list[list[WorkerInfo]]:
    """The workers by machine, in the order of their ids: those of one kernel are together, else those of one host."""
    machines: dict[str, list[WorkerInfo]] = {}
    for worker in workers:
        machines.setdefault(worker.node.boot_id or f"host {worker.node.host}", []).append(worker)
    return list(machines.values())


def machine_of(host: str, machines: Sequence[Sequence[WorkerInfo]]) -> int | None:
    """The machine that a host's name or address means; None: no worker is there."""
    wanted = _without_port(host)[0].casefold()
    for k, machine in enumerate(machines):
        for worker in machine:
            node = worker.node
            names = {name.casefold() for name in (node.host, node.node, *node.addresses) if name}
            # A name without a domain is that of any domain, when it is no address.
            short = {name.partition(".")[0] for name in names if "." not in wanted and not _is_address(name)}
            if wanted in names | short or (not _is_address(wanted) and wanted.partition(".")[0] in names):
                return k
    return None


def pairs(n: int) -> Iterator[tuple[int, int]]:
    """All pairs of ``range(n)``, in rounds in which each number comes once at most."""
    size = n + n % 2
    ring = list(range(size))
    for _ in range(size - 1):
        for k in range(size // 2):
            one, other = sorted((ring[k], ring[size - 1 - k]))
            if other < n:
                yield one, other
        ring.insert(1, ring.pop())


def power_of_two(seconds: float) -> float:
    """The nearest power of two (by ratio), at least a microsecond's."""
    return 2.0 ** max(-20, round(math.log2(max(seconds, 1e-9))))


def round_trips(hosts: Sequence[str]) -> dict[str, float]:
    """Seconds to each of these hosts and back; those that do not answer in time are left out."""
    found: dict[str, float] = {}
    waiting = list(hosts)
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                if not waiting:
                    return
                host = waiting.pop()
            spent = _round_trip(host)
            if spent is not None:
                with lock:
                    found[host] = spent

    # Names are looked up by the system, which may take longer than anybody wants to wait: such threads are left behind.
    threads = [threading.Thread(target=work, daemon=True, name="distances") for _ in hosts[:_AT_ONCE]]
    for thread in threads:
        thread.start()
    end = time.monotonic() + _OUTSIDE_S
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    with lock:
        waiting.clear()
        return dict(found)


def _round_trip(host: str) -> float | None:
    name, port = _without_port(host)
    try:
        family, _, _, _, address = socket.getaddrinfo(name, port or _PORT, type=socket.SOCK_STREAM)[0]
    except OSError:
        return None
    spent = []
    for _ in range(TRIES):
        begin = time.perf_counter()
        with socket.socket(family, socket.SOCK_STREAM) as connection:
            connection.settimeout(_TRY_S)
            try:
                connection.connect(address)
            except ConnectionRefusedError:
                pass  # an answer too
            except OSError:
                return None
        spent.append(time.perf_counter() - begin)
    return _median(spent)


def _median(spent: Sequence[float]) -> float:
    return sorted(spent)[len(spent) // 2]


def _without_port(host: str) -> tuple[str, int]:
    """``name:port`` apart; the port is 0 when there is none. Addresses with colons have theirs behind brackets."""
    name, _, port = host.rpartition(":")
    if name.startswith("[") and name.endswith("]") and port.isdigit():
        return name[1:-1], int(port)
    if name and ":" not in name and port.isdigit():
        return name, int(port)
    return host.strip("[]"), 0


def _is_address(name: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, name)
        except (OSError, ValueError):
            continue
        return True
    return False
