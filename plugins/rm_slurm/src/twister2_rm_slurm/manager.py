"""The backend: a job is one batch job that holds the job master and all workers."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
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
    ResourceManager,
    ResourceOffers,
    RmContext,
)
from twister2_rm_slurm import commands, states, steps
from twister2_rm_slurm.ending import Ending, files_of, folder_of, remove_tickets
from twister2_rm_slurm.logs import LogReader
from twister2_rm_slurm.plan import Files, Plan
from twister2_rm_slurm.queue import Queue
from twister2_rm_slurm.script import batch_script

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from twister2_rm_slurm.config import SlurmConfig

NAME = "slurm"
ATTEMPT_MARKS = (steps.SLOT, "TWISTER2_MASTER_TICKET")
"""Variables of the calling process that a new step must not inherit."""


class SlurmManager(ResourceManager):
    """See :class:`twister2.spec.rm.ResourceManager`."""

    def __init__(self, config: SlurmConfig, context: RmContext) -> None:
        self._config = config
        self._context = context
        self._queue = Queue(config, context.call_timeout_s)
        self._ending = Ending(config, context.call_timeout_s, self._queue)

    @functools.cached_property
    def offers(self) -> ResourceOffers:  # type: ignore[override]
        """Which process worlds there are is asked of srun (a listing of its own plugins) at the first look."""
        return ResourceOffers(
            worlds=self._worlds(),
            supervised=True,
            master_in_client=True,
            master_in_allocation=True,
            restarts_slots=True,
            outlives_client=True,
            shared_files=frozenset({"package", "state", "output"}),
            limits=frozenset({"walltime"}),
            why={
                "in_process": "workers run on the nodes of an allocation, not in the client",
                "resizes": "an allocation of Slurm cannot grow",
                "same_host": "nodes are other hosts than the client's",
                "limits": "whether CPUs and memory are enforced is a setting of the cluster (task/cgroup)",
            },
        )

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
        return batch_script(Plan.of(allocation, self._config), self._config)

    def submit(self, allocation: Allocation) -> JobHandle:
        plan = Plan.of(allocation, self._config)
        if plan.world and plan.world not in self.offers.worlds and not self._config.mpi:
            raise CapabilityError(
                f"Slurm here offers no process world '{plan.world}'",
                why=f"srun has {', '.join(sorted(self.offers.worlds)) or 'none'} ('srun --mpi=list')",
                remedy="choose another transport (job.comm), or name the right plugin of srun in rm.slurm.mpi",
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
        rows = [(row, ours) for row in self._queue.rows(fresh=True) if (ours := row.job()) and ours[0] == job_id]
        self._queue.forget()  # often a moment after submit: the next look must not see what was true before
        if not rows:
            return None
        row, (_, folder) = max(rows, key=lambda found: (found[0].alive, int(found[0].native_id)))
        if not row.alive and Files.of(folder).cleaned.exists():
            return None
        return self._handle(job_id, row.native_id, folder)

    def state(self, handle: JobHandle) -> JobStatus:
        if files_of(handle).cleaned.exists():
            return JobStatus(JobState.UNKNOWN, "what Slurm had of it was cleaned away")
        status = states.status(self._queue.row(handle.native_id, handle.job_id), self._slots(handle))
        if status.state is JobState.RUNNING and (reason := self._refused(handle)):
            return attrs.evolve(status, state=JobState.FAILED, reason=reason)
        if status.state is not JobState.FAILED:
            return status
        if files_of(handle).killed.exists():
            return attrs.evolve(status, state=JobState.KILLED, reason="was killed")
        with suppress(ResourceError):
            if not Plan.load(folder_of(handle)).master_command:
                return attrs.evolve(status, reason=states.with_culprits(status))
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
        reader = LogReader(files, Plan.load(folder_of(handle)).n_workers, slot)
        while True:
            row = self._queue.row(handle.native_id, handle.job_id) if follow else None
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
                why=f"it has not written down its address: {error}",
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
        log = plan.files.step_log(attempt, len(plan.files.step_logs()))
        plan.files.write(log, f"slots {states.compress(wanted)}\n".encode())
        commands.program(self._config, "srun")
        step = steps.worker_step(plan, self._config, wanted, world, handle.native_id)
        self._detach(steps.attempt_script(plan, self._config, step, str(log)))

    def _detach(self, script: str) -> None:
        environment = commands.environment(self._config)
        for name in ATTEMPT_MARKS:
            environment.pop(name, None)
        if self._config.bin:
            environment["PATH"] = f"{self._config.bin}:{environment.get('PATH', '')}"
        try:
            subprocess.run(
                ["/bin/bash", "-c", script],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=self._context.call_timeout_s,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ResourceError(
                "the step of the new attempt could not be started", why=str(error), remedy="see rm.slurm.prologue"
            ) from error

    def stop_attempt(self, handle: JobHandle, slots: Sequence[int], grace_s: float) -> None:
        row = self._queue.row(handle.native_id, handle.job_id)
        if not slots or row is None or not row.alive or row.state == "PENDING":
            return
        self._ending.sweep(handle, slots, grace_s)

    def resize(self, handle: JobHandle, n_workers: int) -> None:
        raise CapabilityError(
            f"job {handle.job_id} cannot be resized to {n_workers} workers",
            why=self.offers.why["resizes"],
            remedy="commit, and submit the job again with another number of workers",
        )

    # -- end -----------------------------------------------------------------------------------------------------------

    def kill(self, handle: JobHandle, grace_s: float) -> None:
        self._ending.kill(handle, grace_s)

    def clean(self, handle: JobHandle) -> list[str]:
        if os.environ.get("SLURM_JOB_ID") == handle.native_id and "SLURM_STEP_ID" not in os.environ:
            # The job master inside the allocation: the job ends with it, and the script removes what is left.
            return []
        self._ending.release(handle)
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
