"""Workers without a job: N threads of one process, each with a link in memory, a network and a memory service.

::

    cluster = LocalCluster(3)
    assert cluster.run(lambda env: allreduce(env, env.worker_id)) == [3, 3, 3]
"""

from __future__ import annotations

import functools
import importlib.metadata
import logging
import os
import pathlib
import tempfile
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs

from twister2.config.job import NetworkConfig
from twister2.spec.comm import Transport, TransportContext
from twister2.spec.environment import NodeFacts
from twister2.spec.errors import PluginNotFoundError, StepAbortedError, Twister2Error, UserCodeError
from twister2.worker.memory import Memory
from twister2.worker.network import WorkerNetwork, form_network
from twister2.worker.spill import Spill
from twister2_testkit.board import Board, MemoryLink, abort_error
from twister2_testkit.loopback import LoopbackTransport

if TYPE_CHECKING:
    from twister2.spec.network import Group

T = TypeVar("T")
MakeTransport = Callable[[TransportContext], Transport]


@attrs.define
class LocalEnv:
    """What a function of :meth:`LocalCluster.run` gets; has the attributes of a ``WorkerEnvironment`` that operators,
    executors and TSets use.
    """

    worker_id: int
    n_workers: int
    attempt: int
    job_id: str
    job_name: str
    network: WorkerNetwork
    memory: Memory
    link: MemoryLink
    log: logging.Logger
    args: list[str] = attrs.field(factory=list)
    config: Mapping[str, Any] = attrs.field(factory=dict)
    backends: dict[tuple[str, str | None], Any] = attrs.field(factory=dict)
    """Backends that :meth:`backend` gives, by kind and name; filled by the test."""
    closing: list[Callable[[], None]] = attrs.field(factory=list)

    def backend(self, kind: str, name: str | None = None) -> Any:
        """A backend: the test's own, or the installed plugin's ``<kind>_create(config)``."""
        key = (kind, name)
        if key not in self.backends:
            plugin = load_plugin(kind, name or "")
            self.backends[key] = getattr(plugin, f"{kind}_create")(config=plugin.config_class())
        return self.backends[key]

    def barrier(self, name: str = "", deadline_s: float | None = None) -> None:
        """A step in which everybody waits for everybody."""
        group = self.network.world
        with self.network.step("barrier", name, group=group):
            self.link.exchange("barrier", name, None, deadline_s)

    def group(self, members: Sequence[int]) -> Group:
        """The sub-group of these workers."""
        return self.network.group(members)

    def empty_shared(self, shape: int | Sequence[int], dtype: Any = "float64") -> Any:
        """An array that the transports send without a copy, where they can."""
        return self.network.empty_shared(shape, dtype)

    def on_close(self, action: Callable[[], None]) -> None:
        """Run ``action`` when this worker's function is over, last registered first."""
        self.closing.append(action)


@attrs.define
class _Outcome(Generic[T]):
    results: list[T | None]
    errors: list[BaseException | None]


class LocalCluster:
    """N workers as threads of this process.

    :param n: number of workers. :param transport: ``"inproc"`` (the installed plugin of that name, or the kit's
        loopback when it is not installed), ``"loopback"``, the name of another installed comm plugin, or a function
        from TransportContext to Transport.
        Several in the job's order of preference. :param hosts: name of each worker's host.
    :param network: the job's network options. :param memory_bytes: limit of each worker's memory service, 0 for none.
    :param spill_dirs: folders for what does not fit into it; a temporary one when there are none.
    :param deadline_s: how long :meth:`run` may take in all; the attempt is aborted then.
    """

    def __init__(
        self,
        n: int,
        transport: str | MakeTransport | Sequence[MakeTransport] = "inproc",
        *,
        hosts: Sequence[str] = (),
        network: NetworkConfig | None = None,
        memory_bytes: int = 0,
        spill_dirs: Sequence[str] = (),
        deadline_s: float = 30.0,
    ) -> None:
        self.n = n
        self.config = network or NetworkConfig(form_deadline_s=min(10.0, deadline_s))
        self.memory_bytes = memory_bytes
        self.spill_dirs = spill_dirs
        self.deadline_s = deadline_s
        self.hosts = dict(enumerate(hosts))
        chosen: Sequence[str | MakeTransport]
        chosen = [transport] if isinstance(transport, str) or callable(transport) else transport
        self._makes = [_maker(one) if isinstance(one, str) else one for one in chosen]

    def run(self, function: Callable[..., T], *args: Any) -> list[T]:
        """Run ``function(env, *args)`` on every worker, in a fresh attempt; its results by worker id.

        :raises Exception: what the worker raised that failed first (not the aborts that followed from it).
        """
        board = Board(self.n)
        outcome: _Outcome[T] = _Outcome([None] * self.n, [None] * self.n)
        session = uuid.uuid4().hex[:12]
        with tempfile.TemporaryDirectory(prefix="t2-") as folder:
            threads = [
                threading.Thread(
                    target=self._worker,
                    args=(board, rank, session, folder, function, args, outcome),
                    name=f"worker-{rank}",
                    daemon=True,
                )
                for rank in range(self.n)
            ]
            for thread in threads:
                thread.start()
            try:
                self._join(board, threads)
            except BaseException as over:  # the test's timeout, an interrupt: no thread goes on without it
                board.fail(-1, _as_error(over))
                raise
        board.close()
        if board.cause is not None:
            raise (outcome.errors[board.culprit] if board.culprit >= 0 else None) or board.cause
        for error in outcome.errors:
            if error is not None:
                raise error
        return outcome.results  # type: ignore[return-value]

    def _join(self, board: Board, threads: Sequence[threading.Thread]) -> None:
        until = time.monotonic() + self.deadline_s
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        alive = [thread for thread in threads if thread.is_alive()]
        if not alive:
            return
        board.fail(-1, _too_long(self.deadline_s, alive))
        for thread in alive:
            thread.join(5.0)
        if any(thread.is_alive() for thread in alive):
            raise board.cause or RuntimeError("a worker hangs and does not see the abort")

    def _worker(
        self,
        board: Board,
        rank: int,
        session: str,
        folder: str,
        function: Callable[..., T],
        args: tuple[Any, ...],
        outcome: _Outcome[T],
    ) -> None:
        link = board.link(rank)
        network: WorkerNetwork | None = None
        try:
            spill = Spill(
                self.spill_dirs or [pathlib.Path(folder) / f"spill{rank}"], "none", configured=bool(self.spill_dirs)
            )
            memory = Memory(self.memory_bytes, spill=spill)
            context = transport_context(self.n, rank, session, folder, link)
            makes = enumerate(self._makes) if self.n > 1 else ()
            transports = [(f"test{number}", functools.partial(make, context)) for number, make in makes]
            network = form_network(link, transports, self.n, self.config, memory=memory, hosts=self.hosts)
            env = LocalEnv(
                rank, self.n, 1, "test", "test", network, memory, link, logging.getLogger(f"twister2.worker{rank}")
            )
            try:
                outcome.results[rank] = function(env, *args)
            finally:
                while env.closing:
                    env.closing.pop()()
            link.raise_if_aborted()
            network.check_finished()
            board.returned(rank)
            self._wait_for_all(board, rank)
        except BaseException as error:
            outcome.errors[rank] = error
            if not isinstance(error, StepAbortedError):
                board.fail(rank, _as_error(error))
        finally:
            if network is not None:
                network.close(aborted=board.cause is not None)

    def _wait_for_all(self, board: Board, rank: int) -> None:
        """Keep transports open until everybody has returned: peers may still read what this worker sent."""
        board.exchange(rank, ("end", "end", 1), None, self.deadline_s)


def _too_long(deadline_s: float, alive: Sequence[threading.Thread]) -> UserCodeError:
    import sys

    frames = sys._current_frames()
    stacks = {
        thread.name: "".join(traceback.format_stack(frames[thread.ident]))
        for thread in alive
        if thread.ident is not None and thread.ident in frames
    }
    return UserCodeError(
        f"{', '.join(stacks)} did not return within {deadline_s:g} s",
        why="\n".join(f"{name}:\n{stack}" for name, stack in stacks.items()),
        remedy="see where they wait",
    )


def _as_error(error: BaseException) -> Twister2Error:
    if isinstance(error, Twister2Error):
        return error
    return UserCodeError(
        f"{type(error).__name__}: {error}", why=str(error), remedy="see the traceback",
        details={"traceback": "".join(traceback.format_exception(error))},
    )  # fmt: skip


def transport_context(n: int, rank: int, session: str, folder: str, link: MemoryLink) -> TransportContext:
    """What a transport of one of ``n`` threads is made for; ``session`` is equal on all of them."""
    return TransportContext(
        job_id="test",
        attempt=link.attempt,
        rank=rank,
        size=n,
        node=NodeFacts(host=os.uname().nodename, addresses=("127.0.0.1",), boot_id="test"),
        runtime_dir=str(pathlib.Path(folder)),
        session=session,
        curve_public="",
        curve_secret="",
        peer_keys={},
        aborted=lambda: link.aborted,
    )


def load_plugin(kind: str, name: str) -> Any:
    """An instance of an installed plugin, without the host's checks.

    :raises PluginNotFoundError: it is not installed.
    """
    for entry in importlib.metadata.entry_points(group=f"twister2.{kind}"):
        if entry.name == name:
            return entry.load()()
    raise PluginNotFoundError(
        f"no {kind} plugin '{name}' is installed", why="no entry point has that name", remedy="install it for this test"
    )


def _maker(name: str) -> MakeTransport:
    if name == "loopback":
        return LoopbackTransport
    try:
        plugin = load_plugin("comm", name)
    except PluginNotFoundError:
        if name == "inproc":
            return LoopbackTransport
        raise
    return lambda context: plugin.comm_create(config=plugin.config_class(), context=context)


__all__ = ["Board", "LocalCluster", "LocalEnv", "LoopbackTransport", "MemoryLink", "abort_error", "load_plugin"]
