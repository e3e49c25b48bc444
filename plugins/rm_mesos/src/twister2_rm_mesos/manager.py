"""The backend: what the scheduler of a job is asked for, and what it has written down."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TYPE_CHECKING, Any

import attrs

from twister2.spec.errors import CapabilityError, ResourceError, ResourcesExceededError, SubmissionRefusedError
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
from twister2_rm_mesos import states, tasks
from twister2_rm_mesos.agents import wait_gone
from twister2_rm_mesos.api import Api, RefusedError
from twister2_rm_mesos.folder import Folder
from twister2_rm_mesos.logs import LogReader
from twister2_rm_mesos.probe import agents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from twister2_rm_mesos.config import MesosConfig

NAME = "mesos"
GONE_S = 8.0
"""How long executors of a framework that was torn down may take to end."""


class MesosManager(ResourceManager):
    """See :class:`twister2.spec.rm.ResourceManager`."""

    offers = ResourceOffers(
        supervised=True,
        master_in_client=True,
        restarts_slots=True,
        resizes=True,
        outlives_client=True,
        limits=frozenset({"cpus", "memory"}),
        why={
            "worlds": "Mesos provides no process world",
            "in_process": "workers run on Mesos' agents, not in the client",
            "master_in_allocation": "a framework's scheduler lives on the submitting host, the job master beside it",
            "shared_files": "agents and the client need not share files",
            "same_host": "agents are other hosts than the client's",
            "renews": "Mesos ends no job at a time limit",
        },
    )

    def __init__(self, config: MesosConfig, context: RmContext) -> None:
        self._config, self._context = config, context
        self._api = Api(config, context.call_timeout_s)

    # -- submit --------------------------------------------------------------------------------------------------------

    def render(self, allocation: Allocation) -> str:
        plan = tasks.Plan.of(allocation, self._config)
        folder = Folder.of(self._context.state_dir, allocation.job_id)
        head = (
            allocation.summary,
            f"submitted by a scheduler, process of this user on {os.uname().nodename}: POST of SUBSCRIBE, and ACCEPT of"
            " offers that suit, to /api/v1/scheduler of the master that leads",
            f"its files: {folder.root} (0700); copies fetch the ticket from it",
        )
        return json.dumps(tasks.rendered(plan, self._config, head), indent=2, ensure_ascii=False) + "\n"

    def submit(self, allocation: Allocation) -> JobHandle:
        if allocation.world:
            raise CapabilityError(
                f"Mesos offers no process world '{allocation.world}'",
                why=self.offers.why["worlds"],
                remedy="choose a transport that needs none (job.comm)",
            )
        plan = tasks.Plan.of(allocation, self._config)
        folder = Folder.of(self._context.state_dir, allocation.job_id)
        if folder.plan.exists():
            raise SubmissionRefusedError(
                f"job {allocation.job_id} is there already",
                why="it was submitted before",
                remedy=f"end it first: twister2 kill {allocation.job_id}",
                where=str(folder.root),
            )
        if not allocation.oversubscribe:
            self._check(plan.slots)
        folder.make()
        try:
            folder.write(folder.ticket, allocation.ticket)
            folder.put(folder.plan, plan.to_dict())
            self._start(folder)
            status = self._accepted(folder)
        except BaseException:
            with suppress(ResourceError):
                self._end(folder, 0.0)
            folder.remove()
            raise
        return self._handle(allocation.job_id, status["framework"])

    def _handle(self, job_id: str, framework: str) -> JobHandle:
        return JobHandle(NAME, job_id, framework, {"masters": list(self._config.masters)})

    def _check(self, slots: Sequence[Mapping[str, float]]) -> None:
        """:raises ResourcesExceededError: more than all agents have, or one copy more than any."""
        try:
            able, n = agents(self._api, self._config)
        except RefusedError:
            return  # it may not be looked at: offers will tell
        if n and not able:
            raise SubmissionRefusedError(
                f"none of the {n} agents of Mesos is as asked for",
                why=f"rm.mesos.constraints: {', '.join(self._config.constraints)}",
                remedy="see the agents' attributes in Mesos' master, and change rm.mesos.constraints",
            )
        options = {"cpus": "CPUs", "mem": "MiB of memory", "disk": "MiB of disk", "gpus": "GPUs"}
        for name, words in options.items():
            has = [float(each["resources"].get(name, 0)) for each in able]
            asked = [each.get(name, 0.0) for each in slots]
            if not able or not asked:
                continue
            for what, wanted, there, who in (
                ("a copy asks", max(asked), max(has), "the largest agent has"),
                (f"{len(slots):,} copies ask", sum(asked), sum(has), f"{len(able)} agents have together"),
            ):
                if wanted > there + 1e-6:
                    raise ResourcesExceededError(
                        f"{what} for {wanted:,.10g} {words}",
                        why=f"{who} {there:,.10g}",
                        remedy="ask for fewer or smaller workers (job.workers, job.cpus, job.memory_mb, job.gpus)",
                    )

    def _start(self, folder: Folder) -> None:
        """Start the job's scheduler as a process that outlives this one and is nobody's child here."""
        command = [sys.executable, "-m", "twister2_rm_mesos.scheduler", str(folder.root)]
        text = 'log=$1; shift; setsid "$@" </dev/null >>"$log" 2>&1 &'
        try:
            subprocess.run(
                ["/bin/sh", "-c", text, "sh", str(folder.log), *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=self._context.call_timeout_s,
                check=True,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise ResourceError(
                "the scheduler of the job could not be started", why=str(error), remedy="see the limits of processes"
            ) from error

    def _accepted(self, folder: Folder) -> dict[str, Any]:
        """Wait until Mesos has taken the framework in."""
        status: dict[str, Any] = {}

        def known() -> bool:
            status.update(folder.read(folder.status) or {})
            return bool(status.get("framework") or status.get("problem") or status.get("over"))

        self._until(known, self._context.call_timeout_s, folder, "Mesos has not taken the framework in")
        if not status.get("framework"):
            raise SubmissionRefusedError(
                "Mesos did not accept the framework",
                why=status.get("problem") or "no reason is known",
                remedy="check rm.mesos.masters, role, principal and secret_file; 'twister2 doctor mesos' looks at them",
            )
        return status

    def _until(self, done: Callable[[], bool], seconds: float, folder: Folder, what: str) -> None:
        until = time.monotonic() + seconds
        while not done():
            if time.monotonic() > until:
                status = folder.read(folder.status) or {}
                with suppress(OSError):
                    status.setdefault("problem", folder.log.read_text(errors="replace").strip()[-300:])
                raise ResourceError(
                    f"{what} after {seconds:g} s",
                    why=status.get("problem") or "its scheduler or an agent does not answer",
                    remedy="try again later; 'twister2 doctor mesos' shows whether Mesos answers",
                    where=str(folder.root),
                )
            time.sleep(0.02)

    def publish(self, handle: JobHandle, ticket: bytes) -> None:
        folder = self._folder(handle)
        folder.write(folder.ticket, ticket)

    # -- looking -------------------------------------------------------------------------------------------------------

    def _folder(self, handle: JobHandle) -> Folder:
        return Folder.of(self._context.state_dir, handle.job_id)

    def _frameworks(self) -> list[dict[str, Any]]:
        """The frameworks that Mesos knows and that have not ended."""
        try:
            found = self._api.operate("GET_FRAMEWORKS")["get_frameworks"].get("frameworks", ())
        except (RefusedError, KeyError) as error:
            raise ResourceError(
                "Mesos does not show its frameworks",
                why=str(error),
                remedy="set rm.mesos.principal and rm.mesos.secret_file to somebody who may look at them",
            ) from error
        return [each["framework_info"] for each in found]

    def find(self, job_id: str) -> JobHandle | None:
        folder = Folder.of(self._context.state_dir, job_id)
        status = folder.read(folder.status)
        if folder.plan.exists() and status:
            kept = folder.read(folder.kept) or {}
            return self._handle(job_id, str(kept.get("first", "")))
        for info in self._frameworks():
            labels = {each["key"]: each.get("value") for each in (info.get("labels") or {}).get("labels", ())}
            if labels.get("twister2-job") == job_id:
                return self._handle(job_id, info["id"]["value"])
        return None

    def state(self, handle: JobHandle) -> JobStatus:
        folder = self._folder(handle)
        if not folder.plan.exists():
            known = any(info["id"]["value"] == handle.native_id for info in self._frameworks())
            if known:
                return JobStatus(JobState.RUNNING, "its scheduler runs on another host, which knows more")
            return JobStatus(JobState.UNKNOWN, "Mesos knows no such framework (any more)")
        status = folder.read(folder.status)
        if status is None:
            return JobStatus(JobState.QUEUED, "its scheduler is being started")
        slots = {int(number): text for number, text in status["slots"].items()}
        if status["over"] and (folder.killed.exists() or status["removed"]):
            why = "was killed" if folder.killed.exists() else "its framework was torn down in Mesos"
            return JobStatus(JobState.KILLED, why, slots)
        if len(slots) == status["n"] and not status["wanted"]:
            bad = states.culprits(slots)
            return JobStatus(JobState.FAILED if bad else JobState.COMPLETED, bad, slots)
        if not folder.held() and not (folder.read(folder.status) or {"over": True})["over"]:
            self._start(folder)  # it died: another takes the framework over
        if status["wanted"] or status["starting"]:
            why = status["waiting"] or f"{status['starting']} of {status['n']} copies are being started"
            bad = states.culprits(slots)
            slots |= {int(number): text for number, text in status["absent"].items()}
            if status["began"] and status["running"]:
                return JobStatus(JobState.RUNNING, bad, slots, pending=why)
            started = status["running"] or status["starting"]
            return JobStatus(JobState.STARTING if started else JobState.QUEUED, why, slots)
        return JobStatus(JobState.RUNNING, states.culprits(slots) or status["problem"], slots)

    def logs(self, handle: JobHandle, *, slot: int | None = None, follow: bool = False) -> Iterator[LogChunk]:
        folder, reader = self._folder(handle), LogReader(self._api, slot)
        while (status := folder.read(folder.status)) is not None:
            last = not follow or self.state(handle).state.final  # before the last look
            yield from reader.read([(task, int(number), agent) for task, number, agent in status["tasks"]])
            if last:
                return
            time.sleep(self._config.poll_s)

    def open_channel(self, handle: JobHandle) -> AbstractContextManager[Sequence[str]]:
        """The master lives on this host, and its ticket says where it listens."""
        folder = self._folder(handle)
        ticket = folder.read(folder.ticket)
        addresses = ticket.get("addresses") if isinstance(ticket, dict) else None
        if not addresses:
            raise ResourceError(
                f"the job master of job {handle.job_id} cannot be reached",
                why="it has not told its address yet, or lives on the host that submitted the job",
                remedy="ask on that host, once the job has started",
            )
        return nullcontext([str(address) for address in addresses])

    # -- attempts ------------------------------------------------------------------------------------------------------

    def _order(self, folder: Folder, **what: Any) -> None:
        """Have the scheduler take an order; one that died is started again."""
        if not folder.plan.exists():
            raise ResourceError(
                "the job's scheduler cannot be asked",
                why=f"{folder.root} is not there: the job was cleaned, or was submitted on another host",
                remedy="ask on the host that submitted it",
            )
        folder.order(**what)
        asked = 0.0

        def taken() -> bool:
            nonlocal asked
            if not any(folder.orders.glob("[0-9]*")):
                return True
            if time.monotonic() - asked > 1.0 and not folder.held():
                asked = time.monotonic()
                self._start(folder)
            return False

        self._until(taken, self._context.call_timeout_s, folder, "the job's scheduler has not taken an order")

    def start_attempt(self, handle: JobHandle, attempt: int, slots: Sequence[int], world: str | None = None) -> None:
        folder = self._folder(handle)
        if not slots:
            return
        self._must_live(handle, folder, attempt)
        self._order(folder, start=sorted(set(slots)))
        self._must_live(handle, folder, attempt)

    def _must_live(self, handle: JobHandle, folder: Folder, attempt: int) -> None:
        killed = folder.killed.exists()
        if killed or (folder.read(folder.status) or {}).get("removed"):
            raise ResourceError(
                f"attempt {attempt} of job {handle.job_id} cannot be started: "
                f"{'it was killed' if killed else 'its framework was torn down in Mesos'}",
                why="another shell has ended it" if killed else "an operator, or a kill on another host, has ended it",
                remedy="submit the job again",
            )

    def stop_attempt(self, handle: JobHandle, slots: Sequence[int], grace_s: float) -> None:
        folder = self._folder(handle)
        if not slots or not folder.plan.exists():
            return
        self._order(folder, stop=sorted(set(slots)), grace_s=grace_s)
        wanted = set(slots)

        def ended() -> bool:
            status = folder.read(folder.status) or {}
            if status.get("over"):
                return True
            if stuck := wanted & set(status.get("stuck", ())):
                raise ResourceError(
                    f"copies in slots {', '.join(map(str, sorted(stuck)))} have not ended",
                    why="they were killed, and Mesos says nothing of it: their agents are dead, or cut off",
                    remedy="none is needed: they are killed should they come back, their slots can be started again",
                )
            return wanted <= {int(number) for number in status.get("slots", ())} | set(status.get("empty", ()))

        self._until(ended, grace_s + self._context.call_timeout_s, folder, "not all copies have ended")

    def resize(self, handle: JobHandle, n_workers: int, group: ResourceGroup | None = None) -> None:
        folder = self._folder(handle)
        wants = tasks.wants(group, self._config) if group is not None else None
        if wants is not None and group is not None:
            kept = folder.read(folder.kept) or {"slots": ()}
            self._check([*(each["wants"] for each in kept["slots"]), *[wants] * group.count])
        self._order(folder, resize=n_workers, wants=wants)
        self._until(
            lambda: not (folder.read(folder.status) or {}).get("leaving"),
            self._context.call_timeout_s,
            folder,
            "not all copies that were given up have ended",
        )

    # -- end -----------------------------------------------------------------------------------------------------------

    def kill(self, handle: JobHandle, grace_s: float) -> None:
        folder = self._folder(handle)
        if not folder.plan.exists():
            if handle.native_id and any(info["id"]["value"] == handle.native_id for info in self._frameworks()):
                self._api.teardown(handle.native_id)
                wait_gone(self._api, handle.native_id, grace_s + GONE_S)
            return
        self._end(folder, grace_s)

    def _end(self, folder: Folder, grace_s: float) -> None:
        status = folder.read(folder.status) or {}
        final = len(status.get("slots", ())) == status.get("n", -1) and not status.get("wanted")
        if not final:
            folder.write(folder.killed, b"")
        if status.get("over") and not folder.held():
            return
        self._order(folder, end=grace_s)

        def over() -> bool:
            return bool((folder.read(folder.status) or {}).get("over")) and not folder.held()

        self._until(over, grace_s + self._context.call_timeout_s, folder, "the job has not ended in Mesos")

    def clean(self, handle: JobHandle) -> list[str]:
        folder = self._folder(handle)
        try:
            self.kill(handle, 0.0)
        except ResourceError as error:
            return [f"Mesos framework {handle.native_id}: {error.what}: {error.why}"]
        folder.remove()
        with suppress(OSError):
            folder.root.parent.rmdir()
        return []

    def close(self) -> None:
        """Every call has a connection of its own."""

    def __repr__(self) -> str:
        return f"MesosManager({attrs.asdict(self._config)!r})"
