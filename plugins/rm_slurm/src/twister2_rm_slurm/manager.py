"""The backend: a job is one batch job that holds the job master and all workers."""

from __future__ import annotations

import functools
import json
import os
import re
import shlex
import subprocess
import tempfile
import time
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TYPE_CHECKING, Any

import attrs

from twister2.spec.errors import CapabilityError, ResourceError
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
from twister2_rm_slurm import commands, more, states, steps
from twister2_rm_slurm.ending import Ending, remove_tickets
from twister2_rm_slurm.files import Files, files_of, folder_of
from twister2_rm_slurm.lives import Lives
from twister2_rm_slurm.logs import LogReader
from twister2_rm_slurm.more import More
from twister2_rm_slurm.plan import Plan, Shape
from twister2_rm_slurm.queue import Queue
from twister2_rm_slurm.script import batch_script, head

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from twister2_rm_slurm.config import SlurmConfig

NAME = "slurm"
SHRINK_S = 3.0
"""How long copies of slots that are given up may take to end; the job master has told them."""
ATTEMPT_MARKS = (steps.SLOT, "TWISTER2_MASTER_TICKET")
"""Variables of the calling process that a new step must not inherit."""


class SlurmManager(ResourceManager):
    """See :class:`twister2.spec.rm.ResourceManager`."""

    def __init__(self, config: SlurmConfig, context: RmContext) -> None:
        self._config = config
        self._context = context
        self._queue = Queue(config, context.call_timeout_s)
        self._more = More(config, context.call_timeout_s, self._queue)
        self._lives = Lives(config, context.call_timeout_s, self._queue)
        self._ending = Ending(config, context.call_timeout_s, self._queue, self._more)

    @property
    def offers(self) -> ResourceOffers:  # type: ignore[override]
        """Which process worlds there are is asked of srun (a listing of its own plugins) at the first look."""
        return ResourceOffers(
            worlds=self._worlds,
            supervised=True,
            master_in_client=True,
            master_in_allocation=True,
            restarts_slots=True,
            restarts_master=bool(self._config.requeue or self._config.master_restarts),
            renews=self._config.requeue,
            resizes=True,
            outlives_client=True,
            shared_files=frozenset({"package", "state", "output"}),
            limits=frozenset({"walltime"}),
            why={
                "in_process": "workers run on the nodes of an allocation, not in the client",
                "restarts_master": "rm.slurm.master_restarts is 0",
                "renews": "a job goes back into the queue only where rm.slurm.requeue is set",
                "same_host": "nodes are other hosts than the client's",
                "limits": "whether CPUs and memory are enforced is a setting of the cluster (task/cgroup)",
            },
        )

    @functools.cached_property
    def _worlds(self) -> frozenset[str]:
        with suppress(ResourceError):
            answer = self._run("srun", "--mpi=list")
            words = set(re.findall(r"[\w.]+", answer.out + answer.err))
            return frozenset(words & {"pmi2", "pmix"})
        return frozenset({"pmi2"})

    def _run(self, *arguments: str) -> commands.Answer:
        return commands.run(self._config, arguments, self._context.call_timeout_s)

    # -- submit --------------------------------------------------------------------------------------------------------

    def render(self, allocation: Allocation) -> str:
        plan = Plan.of(allocation, self._config)
        sbatch = f"{self._config.bin}/sbatch" if self._config.bin else "sbatch"
        first, rest = batch_script(plan, self._config).split("\n", 1)
        return "\n".join(
            [first, *head(allocation, plan, shlex.join([sbatch, "--parsable", str(plan.files.script)])), rest]
        )

    def submit(self, allocation: Allocation) -> JobHandle:
        plan = Plan.of(allocation, self._config)
        plan.check_new()
        self._check_world(plan.world)
        if plan.requeue and not plan.master_command:
            raise CapabilityError(
                "a job whose master is in the client cannot go back into Slurm's queue",
                why="rm.slurm.requeue is set, and its master would have to wait there, too",
                remedy="set job.master = 'allocation', or rm.slurm.requeue = false",
            )
        commands.program(self._config, "sbatch")
        files = plan.files
        made = not os.path.isdir(plan.folder)
        try:
            files.make()
            files.write(files.ticket, allocation.ticket)
            files.write(files.master_ticket, allocation.master_ticket)
            plan.save()
            files.write(files.script, batch_script(plan, self._config).encode(), 0o700)
            native_id = self._sbatch(plan)
        except BaseException:
            files.remove()
            if made:
                with suppress(OSError):
                    os.rmdir(plan.folder)
            raise
        self._queue.forget()
        return self._handle(plan.job_id, native_id, plan.folder)

    def _check_world(self, world: str | None) -> None:
        if world and world not in self.offers.worlds and not self._config.mpi:
            raise CapabilityError(
                f"Slurm here offers no process world '{world}'",
                why=f"srun has {', '.join(sorted(self.offers.worlds)) or 'none'} ('srun --mpi=list')",
                remedy="choose another transport (job.comm), or name the right plugin of srun in rm.slurm.mpi",
            )

    def _sbatch(self, plan: Plan) -> str:
        try:
            answer = self._run("sbatch", "--parsable", str(plan.files.script))
        except BaseException:
            # It may have been accepted although no answer came (a timeout, Ctrl-C).
            with suppress(ResourceError):
                if (handle := self.find(plan.job_id)) is not None:
                    self._run("scancel", handle.native_id)
            raise
        native_id = answer.out.strip().split(";")[0]
        if answer.code or not native_id.isdigit():
            raise commands.refusal(answer)
        return native_id

    @staticmethod
    def _handle(job_id: str, native_id: str, folder: str) -> JobHandle:
        return JobHandle(NAME, job_id, native_id, {"folder": folder})

    # -- looking -------------------------------------------------------------------------------------------------------

    def find(self, job_id: str) -> JobHandle | None:
        if (around := self._around(job_id)) is not None:
            return around
        shown = [row for row in self._queue.rows(fresh=True) if row.native_id.isdigit()]
        rows = [(row, ours) for row in shown if (ours := row.job()) and ours[0] == job_id]
        self._queue.forget()  # often a moment after submit: the next look must not see what was true before
        if not rows:
            return None
        row, (_, folder) = max(rows, key=lambda found: (found[0].alive, int(found[0].native_id)))
        if not row.alive and Files.of(folder).cleaned.exists():
            return None
        return self._handle(job_id, row.native_id, folder)

    def _around(self, job_id: str) -> JobHandle | None:
        """The job that this process is a part of, if it is this one: its master need not ask Slurm for it."""
        number, folder = os.environ.get("SLURM_JOB_ID", ""), os.path.join(self._context.state_dir, "jobs", job_id)
        if os.environ.get(steps.JOB) == job_id and number.isdigit() and Files.of(folder).master_host.exists():
            return self._handle(job_id, number, folder)
        return None

    def state(self, handle: JobHandle) -> JobStatus:
        if files_of(handle).cleaned.exists():
            return JobStatus(JobState.UNKNOWN, "what Slurm had of it was cleaned away")
        slots = self._slots(handle)
        row = self._queue.row(handle.native_id, handle.job_id)
        begun = row is not None and row.state == "PENDING" and files_of(handle).master_host.exists()
        if begun:  # it was put back into the queue, or has begun since Slurm was asked
            row = self._queue.row(handle.native_id, handle.job_id, fresh=True)
        if row is None:
            return self._as_written(handle, states.status(row, slots))
        if not row.alive and self._config.requeue and not files_of(handle).ended.exists():
            row = self._queue.again(row, handle.job_id)
        status = states.status(row, slots)
        if status.state is JobState.QUEUED and begun:
            return attrs.evolve(status, reason=f"was put back into the queue; {status.reason}")
        if row.headless:
            with suppress(ResourceError):
                if Plan.load(folder_of(handle)).master_command:
                    return self._lives.without_first_node(handle, status)
        if row.state == "COMPLETING":  # of a job that it has cancelled Slurm says no more as long as processes are left
            with suppress(OSError):
                ended = states.why_ended(files_of(handle).log.read_text(encoding="utf-8", errors="replace"))
                status = attrs.evolve(status, reason=ended or status.reason)
        if status.state is JobState.RUNNING:
            reason = self._refused(handle)
            refused = attrs.evolve(status, state=JobState.FAILED, reason=reason)
            return refused if reason else self._with_more(handle, status, slots)
        return self._failed(handle, status) if status.state is JobState.FAILED else status

    @staticmethod
    def _failed(handle: JobHandle, status: JobStatus) -> JobStatus:
        """What more is known of a job that Slurm calls failed."""
        if files_of(handle).killed.exists() or _outcome(files_of(handle)) == JobState.KILLED.value:
            return attrs.evolve(status, state=JobState.KILLED, reason="was killed")
        with suppress(ResourceError):
            if not Plan.load(folder_of(handle)).master_command:
                return attrs.evolve(status, reason=states.with_culprits(status))
        return status

    @staticmethod
    def _as_written(handle: JobHandle, status: JobStatus) -> JobStatus:
        """A job that Slurm has forgotten: its script has written down how it ended, if it came to its end."""
        with suppress(OSError, ValueError):
            code = int(files_of(handle).ended.read_text("ascii"))
            state = JobState.FAILED if code else JobState.COMPLETED
            state = JobState.KILLED if _outcome(files_of(handle)) == JobState.KILLED.value else state
            text = f"its script ended with exit code {code} (as it wrote down itself; Slurm knows it no more)"
            return attrs.evolve(status, state=state, reason=text if code else "")
        return status

    def _with_more(self, handle: JobHandle, status: JobStatus, slots: dict[int, str]) -> JobStatus:
        """A job that runs: with what is to be said of its additional jobs."""
        with suppress(ResourceError):
            if files_of(handle).size.exists():
                pending = self._more.look(handle, Plan.load(folder_of(handle)), slots)
                return attrs.evolve(status, slots=slots, pending=pending)
        return status

    def _refused(self, handle: JobHandle) -> str:
        """Why the step of the latest attempt could not be started, nor any other like it."""
        for path in files_of(handle).step_logs()[-1:]:
            with suppress(OSError):
                return states.refused(path.read_text(encoding="utf-8", errors="replace"))
        return ""

    def _slots(self, handle: JobHandle) -> dict[int, str]:
        ended: dict[int, str] = {}
        for path in files_of(handle).step_logs():
            with suppress(OSError, ValueError):
                slots, news = states.ended_slots(path.read_text(encoding="utf-8", errors="replace"))
                for slot in slots:  # started again: how it ended before no longer matters
                    ended.pop(slot, None)
                ended.update(news)
        return ended

    def logs(self, handle: JobHandle, *, slot: int | None = None, follow: bool = False) -> Iterator[LogChunk]:
        files = files_of(handle)
        if not files.plan.exists():
            return
        reader = LogReader(files, lambda: more.highest(handle), slot)
        while True:
            row = self._queue.row(handle.native_id, handle.job_id) if follow else None
            if row is not None and not row.alive and self._config.requeue and not files.ended.exists():
                row = self._queue.again(row, handle.job_id)
            yield from reader.read()
            if row is None or not row.alive:
                return
            time.sleep(self._config.poll_s)

    def open_channel(self, handle: JobHandle) -> AbstractContextManager[Sequence[str]]:
        files = files_of(handle)
        try:
            addresses = [str(address) for address in json.loads(files.ticket.read_bytes())["addresses"]]
            host = files.master_host.read_text(encoding="utf-8").strip()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ResourceError(
                f"the job master of job {handle.job_id} cannot be reached yet",
                why="it has not written down its address"
                + ("" if isinstance(error, FileNotFoundError) else f": {error}"),
                remedy="wait until the job has started; 'twister2 status' shows what it waits for",
                where=f"Slurm job {handle.native_id}",
            ) from error
        if host != os.uname().nodename:
            addresses = [text for text in addresses if not text.startswith(("ipc:", "tcp://127.", "tcp://[::1]"))]
        if not addresses:
            raise ResourceError(
                f"the job master of job {handle.job_id} has no address that this host can reach",
                why=f"it runs on {host} and has not published another address than that host's own",
                remedy="wait until it listens, or do this on a host of the cluster",
                where=f"Slurm job {handle.native_id}",
            )
        return nullcontext(addresses)

    # -- attempts ------------------------------------------------------------------------------------------------------

    def publish(self, handle: JobHandle, ticket: bytes) -> None:
        files = files_of(handle)
        files.write(files.ticket, ticket)

    def start_attempt(self, handle: JobHandle, attempt: int, slots: Sequence[int], world: str | None = None) -> None:
        plan = Plan.load(folder_of(handle))
        wanted = sorted(set(slots))
        if not wanted:
            return
        if world and wanted != list(range(plan.n_workers)):
            raise CapabilityError(
                f"cannot start only slots {states.compress(wanted)} of job {handle.job_id} in a fresh {world} world",
                why="a process world of srun holds all tasks of a step, or none",
                remedy="start all slots of the attempt",
            )
        row = self._queue.row(handle.native_id, handle.job_id, fresh=True)
        if row is None or not row.alive:
            raise ResourceError(
                f"attempt {attempt} of job {handle.job_id} cannot be started: its allocation has ended",
                why=states.describe(row) if row else "Slurm knows no such job (any more)",
                remedy="submit the job again; ask for more time with job.walltime_s",
                where=f"Slurm job {handle.native_id}",
            )
        if plan.requeue and row.state != "RUNNING":
            return  # it was put back into the queue: this master, too, ends now, and the next run starts all
        commands.program(self._config, "srun")
        if world:
            self._begin(plan, [more.Place(handle.native_id, part) for part in steps.parts_of(plan)], attempt, world)
            return
        places = self._more.places(handle, plan, wanted)
        for place in places:
            if not place.native_id:  # the additional job that had them has ended
                self._more.submit(handle, plan, place.part.shape, place.part.slots)
        self._begin(plan, [place for place in places if place.native_id and not place.waits], attempt, None)

    def _begin(self, plan: Plan, places: Sequence[more.Place], attempt: int, world: str | None) -> None:
        """Start copies in allocations that are there, those of a process world together."""
        begun = []
        groups = [list(places)] if world else [[place] for place in places]
        for together in groups:
            parts = [place.part for place in together]
            slots = states.compress(slot for part in parts for slot in part.slots)
            log = plan.files.step_log(attempt, self._more.next_number(plan.files))
            plan.files.write(log, f"slots {slots}\n".encode())
            step = steps.worker_step(plan, self._config, parts, world, together[0].native_id)
            begun.append((step, str(log)))
        if begun:
            self._detach(steps.attempt_script(plan, self._config, begun))

    def _detach(self, script: str) -> None:
        environment = commands.environment(self._config)
        for name in ATTEMPT_MARKS:
            environment.pop(name, None)
        if self._config.bin:
            environment["PATH"] = f"{self._config.bin}:{environment.get('PATH', '')}"
        try:
            with tempfile.TemporaryFile() as said:  # no pipe: what the prologue leaves running would hold it open
                done = subprocess.run(
                    ["/bin/bash", "-c", script],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=said,
                    timeout=self._context.call_timeout_s,
                    check=False,
                )
                said.seek(0)
                words = " ".join(said.read(4096).decode(errors="replace").split())
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _not_begun(str(error)) from error
        if done.returncode:
            raise _not_begun(f"it ended with exit code {done.returncode}" + (f": {words}" if words else ""))

    def stop_attempt(self, handle: JobHandle, slots: Sequence[int], grace_s: float) -> None:
        row = self._queue.row(handle.native_id, handle.job_id)
        if not slots or row is None or not row.alive or row.state == "PENDING":
            return
        plan = Plan.load(folder_of(handle))
        for place in self._more.places(handle, plan, slots):
            if place.native_id == handle.native_id:
                self._ending.sweep(handle, place.part.slots, grace_s)
            elif place.native_id and not place.waits:
                self._ending.sweep_in(place.native_id, handle, place.part.slots, grace_s)

    def resize(self, handle: JobHandle, n_workers: int, group: ResourceGroup | None = None) -> None:
        plan = Plan.load(folder_of(handle))
        row = self._queue.row(handle.native_id, handle.job_id, fresh=True)
        if row is None or row.state != "RUNNING":
            raise ResourceError(
                f"job {handle.job_id} cannot be resized to {n_workers} workers now",
                why=f"its allocation is {row.state if row else 'not known to Slurm (any more)'}",
                remedy="wait until it runs",
                where=f"Slurm job {handle.native_id}",
            )
        size = more.size_of(plan)
        if n_workers < size:
            more.set_size(plan, n_workers)
            self.stop_attempt(handle, range(n_workers, size), SHRINK_S)
            self._more.give_back(handle, n_workers)
            return
        new = range(size, n_workers)
        again = [slot for slot in new if slot < plan.n_workers]  # given up before: the allocation still has their room
        beside = [slot for slot in new if slot >= plan.n_workers]
        if beside:
            shape = plan.shapes[-1] if group is None else Shape.of([group], self._config, len(beside), None)
            self._more.submit(handle, plan, shape, beside)
        more.set_size(plan, n_workers)
        if again:
            self._begin(plan, self._more.places(handle, plan, again), 0, None)

    def remember(self, handle: JobHandle, note: bytes, ended: JobState | None = None) -> None:
        self._lives.remember(handle, note, ended)

    def remembered(self, handle: JobHandle) -> bytes | None:
        return self._lives.remembered(handle)

    def master_returns(self, handle: JobHandle) -> bool:
        return self._lives.master_returns(handle)

    def renew(self, handle: JobHandle) -> None:
        if not self._config.requeue:
            super().renew(handle)
        self._lives.renew(handle)

    # -- end -----------------------------------------------------------------------------------------------------------

    def kill(self, handle: JobHandle, grace_s: float) -> None:
        self._ending.kill(handle, grace_s)

    def clean(self, handle: JobHandle) -> list[str]:
        if os.environ.get("SLURM_JOB_ID") == handle.native_id and "SLURM_STEP_ID" not in os.environ:
            # The job master inside the allocation: the job ends with it, and the script removes what is left.
            return []
        files = files_of(handle)
        try:
            self.kill(handle, 0.0)
        except ResourceError as error:
            return [f"Slurm job {handle.native_id}: {error.what}: {error.why}"]
        remove_tickets(files_of(handle))
        with suppress(ResourceError):
            if files.plan.exists():
                # Slurm itself shows ended jobs for a while longer; to us it is gone.
                files.write(files.cleaned, b"")
        return []

    def close(self) -> None:
        self._queue.forget()

    def __repr__(self) -> str:
        return f"SlurmManager({self._config!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return SlurmManager, (self._config, self._context)


def _outcome(files: Files) -> str:
    """How the job ended as its master noted, empty when it has noted nothing."""
    with suppress(OSError):
        return files.outcome.read_text("ascii")
    return ""


def _not_begun(why: str) -> ResourceError:
    return ResourceError(
        "the copies of the job could not be started",
        why=f"the shell that runs rm.slurm.prologue and srun: {why}",
        remedy="see rm.slurm.prologue",
        where=os.uname().nodename,
    )
