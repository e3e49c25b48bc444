"""The :class:`WorkerEnvironment` of a user process (and of a worker thread)."""

from __future__ import annotations

import contextlib
import copy
import functools
import logging
import math
import operator
import os
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import attrs

from twister2.spec.environment import (
    NodeFacts,
    StateVariable,
    Volumes,
    WorkerController,
    WorkerEnvironment,
    WorkerInfo,
)
from twister2.spec.errors import CapabilityError, UsageError
from twister2.spec.network import Fingerprint, Group
from twister2.spec.tracebacks import short
from twister2.worker.callers import caller_line
from twister2.worker.controller import Controller
from twister2.worker.logs import LinkHandler
from twister2.worker.variables import Variables

if TYPE_CHECKING:
    from twister2.config import Resolved
    from twister2.control.package import Manifest
    from twister2.graph import Graph, Outputs
    from twister2.host import PluginHost
    from twister2.spec.comm import Transport
    from twister2.spec.memory import MemoryService
    from twister2.spec.running import Prepared, Running
    from twister2.worker.execute import GraphRunner
    from twister2.worker.link import Link
    from twister2.worker.network import WorkerNetwork

T = TypeVar("T")


@attrs.frozen
class Start:
    """What the master says when all workers of an attempt have joined.

    :ivar session: random text of the attempt. :ivar keys: public CURVE key by worker id; :ivar curve: this worker's
        pair.
    :ivar checkpoint: number of the committed checkpoint to restore, 0 for none. :ivar state_root: the state folder.
    """

    job_id: str
    job_name: str
    attempt: int
    workers: tuple[WorkerInfo, ...]
    session: str
    keys: Mapping[int, str]
    curve: tuple[str, str]
    checkpoint: int
    state_root: str
    state_shared: bool
    runtime_dir: str
    volatile: str

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Start:
        given = dict(data)
        nodes = [NodeFacts(**{**node, "addresses": tuple(node["addresses"])}) for node in given.pop("nodes")]
        workers = tuple(WorkerInfo(**{**worker, "node": nodes[worker["node"]]}) for worker in given["workers"])
        keys = {int(worker): key for worker, key in given["keys"].items()}
        return cls(**{**given, "workers": workers, "keys": keys, "curve": tuple(given["curve"])})


class Environment(WorkerEnvironment):
    """Made by the core for each attempt; loads plugins when they are first used."""

    def __init__(self, link: Link, start: Start, manifest: Manifest) -> None:
        self.worker_id, self.attempt = link.worker_id, link.attempt
        self.n_workers = len(start.workers)
        self.job_id, self.job_name = start.job_id, start.job_name
        self.args = list(manifest.args)
        self.config = copy.deepcopy(manifest.resolved["tables"])  # the program's own: threads share the manifest
        self._link, self._start, self._manifest = link, start, manifest
        self._host: PluginHost | None = None
        self._resolved: Resolved | None = None
        self._backends: dict[tuple[str, str], Any] = {}
        self._network: WorkerNetwork | None = None
        self._memory: MemoryService | None = None
        self._runner: GraphRunner | None = None
        self._transports: dict[str, Transport] = {}
        self._on_close: list[Callable[[], None]] = []
        self._last_progress, self._told_complete = 0.0, False
        self._controller = Controller(link, start.workers, self.config["job"]["barrier_deadline_s"] or None)
        self._variables = Variables(self)
        self.log = logging.Logger("twister2.program")
        self.log.setLevel(str(self.config["job"]["log_level"]).upper())
        self.log.addHandler(LinkHandler(link))

    @property
    def resolved(self) -> Resolved:
        """The configuration, with the options of plugins."""
        if self._resolved is None:
            from twister2.config import Resolved

            self._resolved = Resolved.from_dict(self._manifest.resolved, self.host)
        return self._resolved

    @property
    def host(self) -> PluginHost:
        """The plugin host, which loads what the submitting side pinned."""
        if self._host is None:
            from twister2.host import Pins, PluginHost

            self._host = PluginHost.from_pins(Pins.from_dict(self._manifest.pins))
        return self._host

    @property
    def link(self) -> Link:
        return self._link

    @property
    def start_facts(self) -> Start:
        return self._start

    @property
    def controller(self) -> WorkerController:
        return self._controller

    @property
    def node(self) -> NodeFacts:
        return self._start.workers[self.worker_id].node

    @property
    def volumes(self) -> Volumes:
        volatile = pathlib.Path(self._start.volatile)
        volatile.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Volumes(None, volatile)  # no manager has volumes that outlive a job

    @property
    def threads(self) -> int:
        """Threads for blocking functions: configured, or as many as the worker has CPUs."""
        job = self.resolved.job
        return job.threads or max(1, int(self._start.workers[self.worker_id].cpus))

    @property
    def memory(self) -> MemoryService:
        if self._memory is None:
            from twister2.worker.memory import Memory
            from twister2.worker.processes import resident_bytes
            from twister2.worker.spill import spill_for

            limit = self._start.workers[self.worker_id].memory_mb << 20
            spill = spill_for(self._manifest.resolved["tables"]["job"], self._start.volatile)
            self._memory = Memory(limit, min(resident_bytes(os.getpid()), limit // 2), spill)
        return self._memory

    @property
    def network(self) -> WorkerNetwork:
        if self._network is None:
            from twister2.worker.network import form_network

            self._link.raise_if_aborted()
            # A step like any other: a worker that does something else instead is seen, and slow is no error.
            world, number = Group(0, tuple(range(self.n_workers))), self._link.next_step(0)
            self._link.enter_step(world, number, Fingerprint("network", "first use", caller_line()))
            self._link.exchange("network", f"first use#{number}", None, None)
            self._transports.clear()  # one that could not be formed has closed its own
            self._network = form_network(
                self._link,
                [(name, functools.partial(self._transport, name)) for name in self.resolved.job.comm],
                self.n_workers,
                self.resolved.job.network,
                memory=self.memory,
                hosts={info.worker_id: info.node.host for info in self._start.workers},
                heartbeat_s=self.resolved.job.heartbeat_s,
            )
            self._link.leave_step(world, number)
        return self._network

    def _transport(self, name: str) -> Transport:
        """Made when it is first asked for."""
        if name in self._transports:
            return self._transports[name]
        from twister2.spec.comm import TransportContext

        start = self._start
        context = TransportContext(
            job_id=self.job_id,
            attempt=self.attempt,
            rank=self.worker_id,
            size=self.n_workers,
            node=self.node,
            runtime_dir=start.runtime_dir,
            session=start.session,
            curve_public=start.curve[0],
            curve_secret=start.curve[1],
            peer_keys=start.keys,
            aborted=lambda: self._link.aborted,
        )
        made = self.host.create("comm", name, self.resolved.plugin("comm", name), context=context)
        self._transports[name] = cast("Transport", made)
        return self._transports[name]

    @property
    def mpi(self) -> Any:
        network = self.network
        for name in self.resolved.job.comm:
            transport = self._transport(name)
            communicator = transport.mpi_communicator()
            if communicator is None and self.n_workers == 1 and transport.facts.worlds:
                transport.open()  # which the network has not: a worker alone has nobody to reach
                communicator = transport.mpi_communicator()
            if communicator is not None:
                return communicator
        raise CapabilityError(
            "this job has no MPI communicator",
            why=f"it runs over {', '.join(self.resolved.job.comm)} ({network.world.size} workers)",
            remedy='set job.comm = ["mpi"] and install twister2-comm-mpi',
        )

    def barrier(self, name: str = "", deadline_s: float | None = None) -> None:
        self._controller.barrier(name, deadline_s)

    def run(self, graph: Graph) -> Outputs:
        return self._graphs().run(graph)

    def start(self, graph: Graph) -> Running:
        return self._graphs().start(graph)

    def prepare(self, graph: Graph) -> Prepared:
        return self._graphs().prepare(graph)

    def _graphs(self) -> GraphRunner:
        if self._runner is None:
            from twister2.worker.execute import GraphRunner

            self._runner = GraphRunner(self)
        return self._runner

    def backend(self, kind: str, name: str | None = None) -> Any:
        name = name or self._only(kind)
        key = (kind, name)
        if key not in self._backends:
            self._backends[key] = self.host.create(
                kind, name, self.resolved.plugin(kind, name), **self._context_of(kind)
            )
        return self._backends[key]

    def _only(self, kind: str) -> str:
        selected: Any = getattr(self.resolved.job, kind)
        names = (selected,) if isinstance(selected, str) else tuple(selected)
        if len(names) != 1:
            raise CapabilityError(
                f"{len(names)} {kind} plugins are selected, name one",
                why=f"selected are: {', '.join(names) or 'none'}",
                remedy=f"call env.backend({kind!r}, NAME)",
            )
        return str(names[0])

    def _context_of(self, kind: str) -> dict[str, Any]:
        if kind == "state":
            from twister2.spec.state import StateContext

            if not self._start.state_shared:
                raise CapabilityError(
                    "this worker does not see the state store",
                    why="the resource manager's hosts share no files with the job master, which keeps the store",
                    remedy="use env.state and env.commit, which go through the master; write other things to a store "
                    "that all hosts reach",
                )
            return {"context": StateContext(root=self._start.state_root, attempt=self.attempt)}
        if kind == "exec":
            from twister2.spec.executor import ExecutorContext

            return {
                "context": ExecutorContext(
                    worker_id=self.worker_id,
                    n_workers=self.n_workers,
                    attempt=self.attempt,
                    job_id=self.job_id,
                    threads=self.threads,
                    network=self.network,
                    memory=self.memory,
                    log=self.log,
                    operators=lambda name: self.backend("ops", name),
                    backend=self.backend,
                    report=lambda counters: self.report(counters, self._runner.running if self._runner else ""),
                    config=self.config,
                )
            }
        return {}

    def report(self, counters: Mapping[str, Mapping[str, float]], step: str = "") -> None:
        """Send the counters of a running step to observers."""
        self._post_progress({"step": step, "counters": {name: dict(values) for name, values in counters.items()}})

    def figures(self) -> Mapping[str, Mapping[str, float]]:
        return self._runner.figures.totals() if self._runner is not None else {}

    def state(
        self, name: str, default: T, scope: Literal["replicated", "keyed", "worker"] = "replicated"
    ) -> StateVariable[T]:
        return self._variables.declare(name, default, scope)

    def commit(self) -> int:
        return self._variables.commit()

    def progress(self, done: float, total: float | None = None, unit: str = "") -> None:
        done = _amount("done", done)
        total = None if total is None else _amount("total", total)
        now, complete = time.monotonic(), total is not None and done >= total
        # The end of something is told at once, but not again and again.
        if now - self._last_progress >= 0.2 or (complete and not self._told_complete):
            self._last_progress, self._told_complete = now, complete
            self._post_progress({"done": done, "total": total, "unit": unit})
        self._link.heed()

    def _post_progress(self, body: Mapping[str, Any]) -> None:
        from twister2.worker.processes import resident_bytes

        self._link.post("progress", {"memory": resident_bytes(os.getpid()), **body})

    def on_close(self, action: Callable[[], None]) -> None:
        self._on_close.append(action)

    def group(self, members: Sequence[int]) -> Group:
        return self.network.group(members)

    def empty_shared(self, shape: int | Sequence[int], dtype: Any = "float64") -> Any:
        return self.network.empty_shared(shape, dtype)

    def close(self, *, aborted: bool) -> None:
        """Run the registered actions, close backends, then the network.

        :raises OperatorError: the program leaves collective calls open.
        """
        if self._network is not None and not aborted:
            self._network.check_finished()
        if self._runner is not None and not aborted:
            figures = self._runner.figures
            if figures.runs:
                self._post_progress({"final": True, "runs": figures.runs, "counters": figures.totals()})
        for action in reversed(self._on_close):
            try:
                action()
            except Exception as error:
                self.log.error("closing: %s: %s", type(error).__name__, error)
        self._on_close.clear()
        for backend in reversed(list(self._backends.values())):
            if hasattr(backend, "close"):
                backend.close()
        self._backends.clear()
        if self._network is not None:
            self._network.close(aborted=aborted)
        for transport in self._transports.values():
            transport.close(aborted=aborted)
        self._transports.clear()


def _amount(name: str, value: Any) -> float:
    """An amount of ``progress`` as a plain number.

    :raises UsageError: it is no number, not finite, or negative.
    """
    if type(value) is int and value >= 0:
        return value
    amount = math.nan
    if not isinstance(value, str | bytes | bytearray):  # float() would read numbers in them
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            amount = operator.index(value) if hasattr(value, "__index__") else float(value)
            amount = amount if math.isfinite(amount) else math.nan
    if not amount >= 0:  # NaN, too
        raise UsageError(
            f"env.progress: {name} is {short(value)}",
            why="amounts are finite numbers, zero or more",
            remedy="tell how much is done, and how much there is in all, or no total when that is not known",
            where=caller_line(),
        )
    return amount
