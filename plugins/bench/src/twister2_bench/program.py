"""The program that measures, run by every worker. It travels alone: it needs the core and numpy, not this plugin.

A *cell* is one measurement: an operation and a size, and between which workers. Cells share the time there is: each has
an equal part of what is left. Before a cell is timed its answer is compared with numpy's, and once more behind it.

Between two workers (``latency``, ``bandwidth``, ``bidirectional``) messages pass through a port of the network, what
operators and programs use; collectives are those of ``network.collectives``.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import time
from typing import TYPE_CHECKING, Any

import numpy

from twister2.spec.channel import HeaderKind
from twister2.spec.collectives import OPERATIONS, Call
from twister2.spec.errors import CapabilityError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twister2.spec.environment import WorkerEnvironment
    from twister2.spec.network import Group, Network, Port

Arrays = Any
"""Numpy arrays of float64, or None."""

PAIR_TESTS = ("latency", "bandwidth", "bidirectional")
MOST_PAIRS = 28
"""All pairs are measured up to this number; beyond it only neighbours in the order of worker ids."""
PAIR_SIZE = 1 << 20
MOST_CALLS, FEWEST_CALLS = 2000, 5
LEAST_SHARE = 0.3
"""A cell has at least this part of an equal share, however long those before it took."""
WINDOW, WINDOW_BYTES = 64, 64 << 20
"""Messages sent before an answer is awaited: so many, or so many bytes, but at least 2."""


class Budget:
    """Time, shared out equally among the cells that are left."""

    def __init__(self, seconds: float, cells: int) -> None:
        self._until, self._cells = time.monotonic() + seconds, cells
        self._least = LEAST_SHARE * seconds / max(1, cells)

    def take(self) -> float:
        """Seconds of the next cell."""
        left, self._cells = max(1, self._cells), self._cells - 1
        return max(self._least, (self._until - time.monotonic()) / left)


def next_batch(done: int, spent_s: float, budget_s: float) -> int:
    """How many calls to make before time is looked at again; 0: enough.

    Batches grow, so that a first call that took long by chance does not decide how many there are.
    """
    if done == 0:
        return FEWEST_CALLS
    fit = int((budget_s - spent_s) / (spent_s / done))
    return max(0, min(fit, done, MOST_CALLS - done))


def summary(samples: Any) -> dict[str, float]:
    """Least, median, 99th percentile and most, of seconds."""
    least, median, p99, most = (float(value) for value in numpy.percentile(samples, [0, 50, 99, 100]))
    return {"min_s": least, "median_s": median, "p99_s": p99, "max_s": most}


# -- collectives -------------------------------------------------------------------------------------------------------


class Cell:
    """The arrays of one collective call on this worker, and the answer it must give.

    :param nbytes: the size of the cell: of the array for broadcast and reductions; of what each worker gives to each
        (all-to-all), gets (scatter) or contributes (gather, allgather).
    :param empty: makes an array of so many elements.
    """

    def __init__(self, operation: str, nbytes: int, rank: int, size: int, empty: Callable[[int], Any]) -> None:
        n = nbytes // 8
        base = numpy.arange(n, dtype="float64") % 1000
        self.call = Call(operation)
        self.send: Arrays = None
        self.receive: Arrays = None
        self.wanted: Arrays = None
        everybody = base * size + size * (size - 1) / 2
        given: Arrays = base + rank
        if operation == "broadcast":
            given, self.wanted = None, base
            self.receive = empty(n)
        elif operation == "scatter":
            given = numpy.concatenate([base + other for other in range(size)]) if rank == 0 else None
            self.wanted, self.receive = base + rank, empty(n)
        elif operation == "alltoall":
            given = numpy.concatenate([base + rank * size + other for other in range(size)])
            self.wanted = numpy.concatenate([base + other * size + rank for other in range(size)])
            self.receive = empty(n * size)
        elif operation in ("gather", "allgather"):
            if operation == "allgather" or rank == 0:
                self.wanted = numpy.concatenate([base + other for other in range(size)])
                self.receive = empty(n * size)
        elif operation == "reduce_scatter":
            counts = tuple((n + size - 1 - other) // size for other in range(size))
            # parts of one size need no counts, and may go a faster way
            self.call = Call(operation, receive_counts=counts if n % size else None)
            begin = sum(counts[:rank])
            self.wanted, self.receive = everybody[begin : begin + counts[rank]], empty(counts[rank])
        elif operation in ("scan", "exscan"):
            others = rank + (operation == "scan")
            self.receive = empty(n)
            if others:  # what exscan leaves on the first rank is undefined
                self.wanted = base * others + others * (others - 1) / 2
        elif operation == "allreduce" or (operation == "reduce" and rank == 0):
            self.wanted, self.receive = everybody, empty(n)
        if operation == "barrier":
            given = None
        if given is not None:
            self.send = empty(len(given))
            self.send[:] = given
        self._root = base if operation == "broadcast" and rank == 0 else None

    def reset(self) -> None:
        """Make a wrong answer of what is there."""
        if self.receive is not None:
            self.receive[:] = numpy.nan if self._root is None else self._root

    def right(self) -> bool:
        """Whether the answer is there."""
        return self.wanted is None or bool(numpy.array_equal(self.receive, self.wanted))


def cells_of(operations: list[str], sizes: list[int]) -> list[tuple[str, int]]:
    """Operation and size of all cells of collectives; a barrier has no size."""
    chosen = [operation for operation in OPERATIONS if operation in operations]
    return [(each, size) for each in chosen for size in (sizes if each != "barrier" else [0])]


def collectives(env: WorkerEnvironment, order: dict[str, Any], budget: Budget) -> Iterator[dict[str, Any]]:
    """Measure all collectives; worker 0 yields their rows.

    The duration of a call is that of its slowest worker. Workers begin each call together, behind a barrier.
    """
    network = env.network
    group = network.collectives()
    rank, size = group.rank, group.size
    empty: Callable[[int], Any] = network.empty_shared if order["shared"] else numpy.empty
    use = env.memory.use()
    room = numpy.array([float(use.budget if use.limit else 1 << 62)])
    least_room = numpy.empty(1)
    group.run(Call("allreduce", op="min"), room, least_room)
    barrier, largest = Call("barrier"), Call("allreduce", op="max")
    gather = Call("gather")
    clock = time.perf_counter
    told, agreed = numpy.zeros(2), numpy.zeros(2)
    for operation, nbytes in cells_of(order["operations"], order["sizes"]):
        budget_s = budget.take()
        row = {"operation": operation, "size": nbytes, "between": "all"}
        if 5 * nbytes * size > least_room[0]:
            if rank == 0:
                yield {**row, "skipped": "its arrays would need more memory than a worker has"}
            continue
        cell = Cell(operation, nbytes, rank, size, empty)
        call, send, receive = cell.call, cell.send, cell.receive
        cell.reset()
        group.run(call, send, receive)
        wrong = not cell.right()
        samples: list[float] = []
        started = clock()
        while True:
            told[:] = wrong, next_batch(len(samples), clock() - started, budget_s) if rank == 0 else 0
            group.run(largest, told, agreed)
            if not agreed[1]:
                break
            for _ in range(int(agreed[1])):
                group.run(barrier)
                begin = clock()
                group.run(call, send, receive)
                samples.append(clock() - begin)
        cell.reset()
        group.run(call, send, receive)
        told[0] = wrong or not cell.right()
        group.run(largest, told, agreed)
        count = len(samples)
        everybody = numpy.empty((size, count)) if rank == 0 else None
        group.run(gather, numpy.array(samples), everybody)
        if everybody is not None:
            medians = numpy.median(everybody, axis=1)
            yield {
                **row,
                **summary(everybody.max(axis=0)),
                "fastest_rank_s": float(medians.min()),
                "slowest_rank_s": float(medians.max()),
                "calls": count,
                "right": not agreed[0],
            }


# -- between two workers -----------------------------------------------------------------------------------------------


class Line:
    """Messages of one size between the two workers of a group, through a port; the first worker *leads*."""

    def __init__(self, network: Network, port: Port, group: Group, nbytes: int, shared: bool) -> None:
        self._network, self._port = network, port
        self._me = group.rank_of(network.worker_id)
        self._came: Any = None
        self.leads = self._me == 0
        self.window = max(2, min(WINDOW, WINDOW_BYTES // nbytes))
        n = nbytes // 8
        self.data = network.empty_shared(n) if shared else numpy.empty(n)
        self.data[:] = numpy.arange(n) % 1000

    def put(self, value: Any = None) -> None:
        """Send a message, or an array that is no message."""
        data = self.data if value is None else value
        while not self._port.send(self._me, 1 - self._me, HeaderKind.DATA, data):
            self._network.progress()

    def take(self) -> Any:
        """Receive an array."""
        delivery = self._port.receive(self._me)
        if delivery is None:
            self._network.wait_until(self._arrived, "a message of the benchmark")
            delivery, self._came = self._came, None
        return delivery.value

    def _arrived(self) -> bool:
        self._came = self._port.receive(self._me)
        return self._came is not None

    def tell(self, number: float) -> float:
        """Give the other worker a number if this one leads, else get it."""
        if self.leads:
            self.put(numpy.array([float(number)]))
            return number
        return float(self.take()[0])

    def latency(self) -> None:
        """There and back."""
        if self.leads:
            self.put()
            self.take()
        else:
            self.take()
            self.put()

    def bandwidth(self) -> None:
        """A window of messages from the one that leads, and an answer."""
        if self.leads:
            for _ in range(self.window):
                self.put()
            self.take()
        else:
            for _ in range(self.window):
                self.take()
            self.put(numpy.zeros(1))

    def bidirectional(self) -> None:
        """A window of messages in both directions at the same time, and an answer."""
        sent = received = 0
        while sent < self.window or received < self.window:
            moved = sent < self.window and self._port.send(self._me, 1 - self._me, HeaderKind.DATA, self.data)
            sent += moved
            if received < self.window and self._port.receive(self._me) is not None:
                received += 1
            elif not moved:
                self._network.progress()
        if self.leads:
            self.take()
        else:
            self.put(numpy.zeros(1))

    def right(self) -> bool:
        """Exchange one message and look at it; whether it is right on both sides."""
        if self.leads:
            self.put()
        right = numpy.array_equal(self.take(), self.data)
        if self.leads:
            return bool(self.take()[0] and right)
        self.put()
        self.put(numpy.array([float(right)]))
        return bool(right)


def pair_cell(network: Network, group: Group, test: str, nbytes: int, budget_s: float, shared: bool) -> dict[str, Any]:
    """Measure between the two workers of a group, called by both; the row of the one that leads counts.

    ``latency`` is half a round trip; of the others a sample is the time of one window of messages, its answer included.
    """
    with network.step("bench", f"{test} of {nbytes} bytes", group=group) as step:
        line = Line(network, network.open_port(step, 0, group.members, group.members), group, nbytes, shared)
        run: Callable[[], None] = getattr(line, test)
        right = line.right()
        clock = time.perf_counter
        samples: list[float] = []
        run()
        started = clock()
        while batch := int(line.tell(next_batch(len(samples), clock() - started, budget_s))):
            for _ in range(batch):
                begin = clock()
                run()
                samples.append(clock() - begin)
        right = line.right() and right
    row: dict[str, Any] = {"operation": test, "size": nbytes, "calls": len(samples), "right": right}
    if test == "latency":
        return {**row, **summary(numpy.array(samples) / 2)}
    found = summary(samples)
    moved = line.window * (2 if test == "bidirectional" else 1)
    rates = {"messages_per_s": moved / found["median_s"], "bytes_per_s": moved * nbytes / found["median_s"]}
    return {**row, **found, **rates, "window": line.window}


def kinds_of(facts: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """The first pair of each kind: transport, and whether both are on one host."""
    first: dict[tuple[str, bool], tuple[int, int]] = {}
    for pair in all_pairs(len(facts)):
        one, other = (facts[each] for each in pair)
        first.setdefault((one["routes"][pair[1]], one["host"] == other["host"]), pair)
    return list(first.values())


def all_pairs(n_workers: int) -> list[tuple[int, int]]:
    """All pairs of workers, each once."""
    return [(one, other) for one in range(n_workers) for other in range(one + 1, n_workers)]


def every_pair(n_workers: int) -> list[tuple[int, int]]:
    """The pairs of the table of pairs: all, or the neighbours where these would be too many; none of two workers."""
    pairs = all_pairs(n_workers)
    if len(pairs) > MOST_PAIRS:
        return [(one, one + 1) for one in range(n_workers - 1)]
    return pairs if n_workers > 2 else []


def pair_cells(order: dict[str, Any], facts: list[dict[str, Any]]) -> list[tuple[str, tuple[int, int], str, int]]:
    """Purpose (``sweep`` over the sizes, or ``pairs``), pair, test and size of all cells between two workers."""
    tests = [test for test in PAIR_TESTS if test in order["operations"]]
    sizes = order["sizes"]
    cells = [("sweep", pair, test, size) for pair in kinds_of(facts) for test in tests for size in sizes]
    one_size = {"latency": sizes[0], "bandwidth": max([size for size in sizes if size <= PAIR_SIZE] or sizes[:1])}
    return cells + [
        ("pairs", pair, test, size)
        for pair in every_pair(len(facts))
        for test, size in one_size.items()
        if test in order["operations"]
    ]


def between_two(
    env: WorkerEnvironment, order: dict[str, Any], facts: list[dict[str, Any]], budget: Budget
) -> Iterator[dict[str, Any]]:
    """Measure between pairs of workers, one pair at a time; the first worker of a pair yields its rows."""
    network = env.network
    for purpose, pair, test, nbytes in pair_cells(order, facts):
        budget_s = budget.take()
        if env.worker_id in pair:
            row = pair_cell(network, network.group(pair), test, nbytes, budget_s, order["shared"])
            if env.worker_id == pair[0]:
                between = {"between": f"{pair[0]}-{pair[1]}", "transport": facts[pair[0]]["routes"][pair[1]]}
                yield {**row, **between, "purpose": purpose}
        # One pair at a time: the others wait in a collective, in which a sleeping worker takes nothing from the pair.
        network.exchange_objects(None)


# -- facts -------------------------------------------------------------------------------------------------------------


def about(env: WorkerEnvironment) -> dict[str, Any]:
    """What and where this worker is."""
    others = [other for other in range(env.n_workers) if other != env.worker_id]
    return {
        "host": env.node.host,
        "cpu": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.release()}",
        "routes": {other: env.network.transport_name(other) for other in others},
        "versions": versions(env),
    }


def processor() -> str:
    """Model of the CPU."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            found = re.search(r"^model name\s*:\s*(.*)$", file.read(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.machine()


def versions(env: WorkerEnvironment) -> dict[str, str]:
    """Of Python, numpy, the core, the transports, and the MPI library if one is used."""
    found = {"python": platform.python_version(), "numpy": numpy.__version__}
    found["twister2-core"] = importlib.metadata.version("twister2-core")
    for name in env.config["job"]["comm"]:
        for point in importlib.metadata.entry_points(group="twister2.comm", name=name):
            if point.dist is not None:
                found[point.dist.name] = point.dist.version
    try:
        communicator = env.mpi
    except CapabilityError:
        return found
    from mpi4py import MPI

    if communicator is not None:
        found["MPI"] = " ".join(MPI.Get_library_version().split()[:3]).rstrip(",")
    return found


def main(env: WorkerEnvironment) -> dict[str, Any]:
    """Measure what is ordered.

    :returns: ``facts`` of this worker, and the ``rows`` it has to tell.
    :raises UsageError: there is one worker only.
    """
    if env.n_workers < 2:
        raise UsageError(
            "communication cannot be measured with one worker",
            why=f"the job has {env.n_workers}",
            remedy="ask for two or more: --workers 2",
        )
    order = json.loads(env.args[0])
    facts = about(env)
    everybody = env.network.exchange_objects(facts)
    pairs = pair_cells(order, everybody)
    budget = Budget(order["seconds"], len(pairs) + len(cells_of(order["operations"], order["sizes"])))
    rows = [*between_two(env, order, everybody, budget), *collectives(env, order, budget)]
    return {"facts": facts, "rows": rows}
