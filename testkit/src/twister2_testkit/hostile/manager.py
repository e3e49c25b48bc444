"""The backend of the resource manager ``hostile``: talks to the node through the cluster's files."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import attrs

from twister2.spec.errors import (
    CapabilityError,
    JobNotFoundError,
    ResourceError,
    ResourcesExceededError,
    SubmissionRefusedError,
)
from twister2.spec.rm import (
    Allocation,
    JobHandle,
    JobState,
    JobStatus,
    LogChunk,
    ResourceGroup,
    ResourceManager,
    ResourceOffers,
    RmContext,
)
from twister2_testkit.hostile.cluster import CLUSTER, MARKER, JobObjects
from twister2_testkit.hostile.forward import forwarded
from twister2_testkit.processes import ended, process_ids, start_of

if TYPE_CHECKING:
    from twister2_testkit.hostile.plugin import HostileConfig

KEPT = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "VIRTUAL_ENV")
"""What of the client's environment an image would hold too."""

MAX_PODS = 1000
POLL_S = 0.01

OFFERS = ResourceOffers(
    supervised=True,
    master_in_allocation=True,
    restarts_slots=True,
    resizes=True,
    outlives_client=True,
    why={
        "worlds": "pods are started one by one and know nothing of each other",
        "in_process": "pods are processes of their own",
        "master_in_client": "nothing in the cluster can dial the client",
        "restarts_master": "a pod that has failed stays so (rm.hostile.master_restarts = 0)",
        "renews": "pods have no time limit",
        "shared_files": "a pod sees no files but its own",
        "same_host": "pods are taken to run on other hosts",
        "limits": "this cluster confines nothing",
    },
)


class HostileManager(ResourceManager):
    """See :mod:`twister2_testkit.hostile`."""

    def __init__(self, config: HostileConfig, context: RmContext) -> None:
        self._config, self._context = config, context
        self.offers = attrs.evolve(OFFERS, restarts_master=config.master_restarts > 0, ticket_limit=config.ticket_limit)
        self._cluster = os.environ.get(CLUSTER) or str(Path(context.state_dir).absolute() / "rm-hostile")

    # -- submit --------------------------------------------------------------------------------------------------------

    def render(self, allocation: Allocation) -> str:
        variables = "".join(f"  {key}={value}\n" for key, value in sorted(self._environment(allocation).items()))
        master = f"master: {shlex.join(allocation.master_command)}\n" if allocation.master else ""
        workers = f"{allocation.n_workers} pods: {shlex.join(allocation.worker_command)}\n"
        return f"{allocation.summary}\n{master}{workers}{variables}"

    def submit(self, allocation: Allocation) -> JobHandle:
        if allocation.world is not None:
            raise SubmissionRefusedError(
                f"no world {allocation.world} here", why=OFFERS.why["worlds"], remedy="use a transport without one"
            )
        if allocation.n_workers > MAX_PODS:
            raise ResourcesExceededError(
                f"{allocation.n_workers:,} pods are too many", why=f"{MAX_PODS} is the quota", remedy="ask for fewer"
            )
        objects = self._objects(allocation.job_id)
        spec = {
            "worker_command": [*allocation.worker_command],
            "master_command": [*allocation.master_command],
            "environment": self._environment(allocation),
            "master": allocation.master is not None,
            "n_workers": allocation.n_workers,
            "hidden": str(Path(allocation.folder).absolute().parent),
            "seed": f"{self._config.seed} {allocation.name}",
            "earliest_s": self._config.earliest_s,
            "late_s": self._config.late_s,
            "twice": self._config.twice,
            "secret_late_s": self._config.secret_late_s,
            "out_of_reach": self._config.out_of_reach,
            "master_restarts": self._config.master_restarts,
            "networks": [name for name in self._config.networks.split(",") if name],
        }
        try:
            Path(allocation.folder).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            objects.create()
            objects.write("ticket", allocation.ticket)
            objects.write("master", allocation.master_ticket)
            objects.write("spec.json", json.dumps(spec).encode())
            self._start_node(objects, range(allocation.n_workers), "first")
        except OSError as error:
            shutil.rmtree(objects.path, ignore_errors=True)
            raise SubmissionRefusedError(
                f"job {allocation.job_id} was not accepted", why=str(error), remedy="see the reason"
            ) from error
        return self._handle(allocation.job_id)

    def _environment(self, allocation: Allocation) -> dict[str, str]:
        return {**{key: os.environ[key] for key in KEPT if key in os.environ}, **allocation.environment}

    def _start_node(self, objects: JobObjects, slots: Sequence[int], first: str) -> None:
        command = [sys.executable, "-m", "twister2_testkit.hostile.node", str(objects.cluster), objects.job_id]
        log = str(objects.logs / "node.log")
        environment = {key: os.environ[key] for key in KEPT if key in os.environ}
        pid = os.posix_spawn(
            sys.executable,
            [*command, ",".join(str(slot) for slot in slots), first],
            {**environment, MARKER: objects.job_id},
            setsid=True,
            file_actions=(
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ),
        )
        _NODES.add(pid)
        objects.write("node", json.dumps([pid, start_of(pid)]).encode())

    def _handle(self, job_id: str) -> JobHandle:
        return JobHandle("hostile", job_id, f"job.batch/{job_id}", {"cluster": self._cluster})

    # -- look ----------------------------------------------------------------------------------------------------------

    def find(self, job_id: str) -> JobHandle | None:
        return self._handle(job_id) if self._objects(job_id).exists else None

    def state(self, handle: JobHandle) -> JobStatus:
        _reap()
        objects = self._objects(handle.job_id)
        if not objects.exists:
            return JobStatus(JobState.UNKNOWN, "the cluster has no such job")
        status = objects.read("status.json") or {"slots": {}}
        texts = {int(slot): text for slot, text in status["slots"].items()}
        master = texts.pop(-1, None)
        pending = not texts or "pending" in (master, *texts.values())
        waits = {slot: "waits for a node (Unschedulable)" for slot, text in texts.items() if text == "pending"}
        alive = self._node_runs(objects)
        if alive and ("running" in texts.values() or master == "running"):
            coming = [slot for slot, text in texts.items() if text == "pending" and slot in status.get("grown", ())]
            why = "its new pods have not started" if coming else ""
            return JobStatus(JobState.RUNNING, "some pods are pending" if pending else "", {**texts, **waits}, why)
        if status.get("killed"):
            return JobStatus(JobState.KILLED if not alive else JobState.RUNNING, "it was killed", texts)
        if alive and pending:
            return JobStatus(JobState.QUEUED, "pods wait for a node (Unschedulable)", {**texts, **waits})
        bad = [f"pod {slot} {text}" for slot, text in texts.items() if text != "exited 0"]
        if master == "exited 0" and (ended := objects.read("ended")):
            return JobStatus(JobState(ended), "", texts)
        if master is not None:
            bad = [] if master == "exited 0" else [f"the master {master}", *bad]
        return JobStatus(JobState.FAILED if bad or pending else JobState.COMPLETED, ", ".join(bad), texts)

    def logs(self, handle: JobHandle, *, slot: int | None = None, follow: bool = False) -> Iterator[LogChunk]:
        folder = self._objects(handle.job_id).logs
        read: dict[str, int] = {}
        while True:
            last = not follow or self.state(handle).state not in (
                JobState.QUEUED,
                JobState.STARTING,
                JobState.RUNNING,
            )
            for path in sorted(folder.glob("*.log")):
                number = int(path.stem[5:]) if path.stem.startswith("slot-") else -1
                text = path.read_bytes()[read.get(path.name, 0) :]
                read[path.name] = read.get(path.name, 0) + len(text)
                if text and slot in (None, number):
                    yield LogChunk(number, "stderr" if number >= 0 else "manager", text.decode("utf-8", "replace"))
            if last:
                return
            time.sleep(POLL_S)

    def open_channel(self, handle: JobHandle) -> AbstractContextManager[Sequence[str]]:
        return _Channel(self._master_addresses(handle))

    def _master_addresses(self, handle: JobHandle) -> list[tuple[str, int]]:
        try:
            ticket = json.loads((self._objects(handle.job_id).path / "ticket").read_bytes())
            parts = [urlsplit(text) for text in ticket["addresses"] if text.startswith("tcp://")]
            found = [(part.hostname, part.port) for part in parts if part.hostname and part.port]
        except (OSError, ValueError, KeyError) as error:
            raise self._unreachable(handle, str(error)) from error
        if not found:
            raise self._unreachable(handle, "it has published no address yet")
        return found

    def _unreachable(self, handle: JobHandle, why: str) -> ResourceError:
        return ResourceError(
            f"the master of job {handle.job_id} cannot be reached", why=why, remedy="wait until its pod runs"
        )

    # -- attempts ------------------------------------------------------------------------------------------------------

    def publish(self, handle: JobHandle, ticket: bytes) -> None:
        self._known(handle).write("ticket", ticket)

    def start_attempt(self, handle: JobHandle, attempt: int, slots: Sequence[int], world: str | None = None) -> None:
        objects = self._known(handle)
        if world is not None:
            raise CapabilityError(f"no world {world} here", why=OFFERS.why["worlds"], remedy="use another transport")
        slots_now = (objects.read("status.json") or {"slots": {}})["slots"]
        missing = [slot for slot in slots if slots_now.get(str(slot)) not in ("pending", "running")]
        if not missing:
            return
        if not self._ask(objects, {"do": "start", "slots": missing}):
            status = objects.read("status.json") or {"slots": {}, "answered": 0}
            status["slots"].update({str(slot): "pending" for slot in missing})
            objects.write("status.json", json.dumps(status).encode())
            self._start_node(objects, missing, "again")

    def stop_attempt(self, handle: JobHandle, slots: Sequence[int], grace_s: float) -> None:
        objects = self._known(handle)
        if not self._ask(objects, {"do": "stop", "slots": [*slots], "grace_s": grace_s}):
            return

        def gone() -> bool:
            status = objects.read("status.json")["slots"]
            return all(status.get(str(slot)) != "running" for slot in slots) or not self._node_runs(objects)

        self._wait(gone, grace_s, "the pods have ended")

    def resize(self, handle: JobHandle, n_workers: int, group: ResourceGroup | None = None) -> None:
        if n_workers > MAX_PODS:
            raise ResourcesExceededError(
                f"{n_workers:,} pods are too many", why=f"{MAX_PODS} is the quota", remedy="ask for fewer"
            )
        objects = self._known(handle)
        if not self._ask(objects, {"do": "resize", "n": n_workers}):
            raise ResourceError("the job cannot be resized", why="all its pods have ended", remedy="submit another")

        def gone() -> bool:
            return not objects.read("status.json").get("leaving") or not self._node_runs(objects)

        self._wait(gone, 0.0, "the pods have ended")

    # -- the master ----------------------------------------------------------------------------------------------------

    def remember(self, handle: JobHandle, note: bytes, ended: JobState | None = None) -> None:
        if not self.offers.restarts_master:
            super().remember(handle, note, ended)
        objects = self._known(handle)
        objects.write("note", note)
        objects.write("ended", json.dumps(ended.value if ended else "").encode())

    def remembered(self, handle: JobHandle) -> bytes | None:
        if not self.offers.restarts_master:
            return super().remembered(handle)
        try:
            return (self._known(handle).path / "note").read_bytes()
        except FileNotFoundError:
            return None

    def master_returns(self, handle: JobHandle) -> bool:
        objects = self._objects(handle.job_id)
        status = objects.read("status.json") if objects.exists else None
        again = bool(status and status.get("restarts") and not status.get("killed"))
        return again and self._node_runs(objects)

    def remove_secrets(self, handle: JobHandle) -> None:
        for name in ("ticket", "master"):
            (self._objects(handle.job_id).path / name).unlink(missing_ok=True)

    # -- end -----------------------------------------------------------------------------------------------------------

    def kill(self, handle: JobHandle, grace_s: float) -> None:
        objects = self._objects(handle.job_id)
        if objects.exists and self._ask(objects, {"do": "kill", "grace_s": grace_s}):
            self._wait(lambda: not self._node_runs(objects), grace_s, "the node has ended")
        marker = f"{MARKER}={handle.job_id}".encode()
        deadline = time.monotonic() + self._context.call_timeout_s
        while left := [pid for pid in process_ids() if pid != os.getpid() and _carries(pid, marker)]:
            for pid in left:
                _kill(pid)
            if time.monotonic() > deadline:
                raise ResourceError("pods do not end", why=f"{left} are left", remedy="see what they wait for")
            time.sleep(POLL_S)
            _reap()

    def clean(self, handle: JobHandle) -> list[str]:
        _reap()
        objects = self._objects(handle.job_id)
        # The memory of a host outlives pods: what they left there is kept, for the test to find it.
        segments = sorted(objects.path.glob("hosts/*/shm/*"))
        for number, segment in enumerate(segments):
            shutil.copyfile(segment, objects.cluster / f"left-{objects.job_id}-{number}-{segment.name}")
        shutil.rmtree(objects.path, ignore_errors=True)
        left = [f"shared memory {segment.name}" for segment in segments]
        return [*left, f"{objects.path} could not be removed"] if objects.path.exists() else left

    def close(self) -> None:
        _reap()

    # -- inside --------------------------------------------------------------------------------------------------------

    def _objects(self, job_id: str) -> JobObjects:
        return JobObjects(self._cluster, job_id)

    def _known(self, handle: JobHandle) -> JobObjects:
        objects = self._objects(handle.job_id)
        if not objects.exists:
            raise JobNotFoundError(
                f"the cluster has no job {handle.job_id}", why="it was removed", remedy="submit it again"
            )
        return objects

    def _node_runs(self, objects: JobObjects) -> bool:
        _reap()
        node = objects.read("node")
        return node is not None and not ended(node[0]) and start_of(node[0]) == node[1]

    def _ask(self, objects: JobObjects, request: Mapping[str, Any]) -> bool:
        """Give the node a request and wait for its answer; False when there is no node (any more) to answer."""
        numbers = [int(name) for name in os.listdir(objects.requests) if name.isdecimal()]
        number = max(numbers, default=0) + 1
        objects.write(f"requests/{number}", json.dumps(request).encode())

        def answered() -> bool:
            return bool((objects.read("status.json") or {"answered": 0})["answered"] >= number)

        self._wait(lambda: answered() or not self._node_runs(objects), 0.0, "the node has answered")
        if not answered():
            (objects.requests / str(number)).unlink(missing_ok=True)
            return False
        return True

    def _wait(self, condition: Callable[[], bool], more_s: float, what: str) -> None:
        deadline = time.monotonic() + self._context.call_timeout_s + more_s
        while not condition():
            if time.monotonic() > deadline:
                raise ResourceError("the node does not answer", why=f"waited until {what}", remedy="kill the job")
            time.sleep(POLL_S)


class _Channel(AbstractContextManager[Sequence[str]]):
    """Forwarders to all addresses of the master."""

    def __init__(self, addresses: list[tuple[str, int]]) -> None:
        self._addresses = addresses
        self._stack = ExitStack()

    def __enter__(self) -> Sequence[str]:
        return [self._stack.enter_context(forwarded(host, port)) for host, port in self._addresses]

    def __exit__(self, *_: object) -> None:
        self._stack.close()


_NODES: set[int] = set()
"""Nodes that this process started."""


def _reap() -> None:
    for pid in [*_NODES]:
        try:
            if os.waitpid(pid, os.WNOHANG)[0]:
                _NODES.discard(pid)
        except ChildProcessError:
            _NODES.discard(pid)


def _carries(pid: int, marker: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return marker in file.read().split(b"\0") and not ended(pid)
    except OSError:
        return False


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
