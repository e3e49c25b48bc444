"""Jobs inside an allocation that is there already (``salloc``, or a script given to ``sbatch``): steps of that
allocation, which is the user's and stays. The job master lives in the client.
"""

from __future__ import annotations

import os
import re
import shlex
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import attrs

from twister2.spec.errors import CapabilityError, ResourceError
from twister2.spec.rm import JobHandle, JobState, JobStatus
from twister2_rm_slurm import commands, states, steps
from twister2_rm_slurm.ending import remove_tickets
from twister2_rm_slurm.files import Files, files_of, folder_of
from twister2_rm_slurm.logs import LogReader
from twister2_rm_slurm.manager import NAME, SlurmManager
from twister2_rm_slurm.more import highest
from twister2_rm_slurm.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from twister2.spec.rm import Allocation, LogChunk, ResourceGroup, ResourceOffers, RmContext
    from twister2_rm_slurm.config import SlurmConfig

INSIDE = "inside"
"""Fact of a handle, and name of the file with Slurm's number of the allocation."""


def surrounding() -> str:
    """Slurm's number of the allocation that this process is in, and may use for jobs; empty when there is none."""
    number = os.environ.get("SLURM_JOB_ID", "")
    return number if number.isdigit() and steps.JOB not in os.environ else ""


class AnywhereManager(SlurmManager):
    """Submits batch jobs, or, inside an allocation, starts steps of that; takes care of jobs of both kinds."""

    def __init__(self, config: SlurmConfig, context: RmContext) -> None:
        super().__init__(config, context)
        self._allocation = surrounding() if config.inside else ""

    @property
    def offers(self) -> ResourceOffers:  # type: ignore[override]
        """Those of batch jobs, but the master is in the client where the allocation is there already."""
        offers = super().offers
        if not self._allocation:
            return offers
        reason = (
            "the allocation around it is used, and the client is in it; rm.slurm.inside = false submits a batch job"
        )
        why = {**offers.why, "master_in_allocation": reason, "resizes": "the allocation around it has the size it has"}
        return attrs.evolve(
            offers, master_in_allocation=False, resizes=False, restarts_master=False, renews=False, why=why
        )

    # -- submit --------------------------------------------------------------------------------------------------------

    def render(self, allocation: Allocation) -> str:
        if not self._allocation:
            return super().render(allocation)
        plan = Plan.of(allocation, self._config, batch=False)
        step = self._step(plan)
        where = f"# a step of Slurm job {self._allocation}, by this srun; the ticket: {plan.files.ticket} (0600)"
        lines = [f"# {allocation.summary}", where, *self._config.prologue, *steps.exports(plan)]
        return "\n".join([*lines, shlex.join(step)]) + "\n"

    def _step(self, plan: Plan) -> list[str]:
        return steps.worker_step(plan, self._config, steps.parts_of(plan), plan.world, self._allocation)

    def submit(self, allocation: Allocation) -> JobHandle:
        if not self._allocation:
            return super().submit(allocation)
        plan = Plan.of(allocation, self._config, batch=False)
        plan.check_new()
        self._check_world(plan.world)
        if allocation.master is not None:
            raise CapabilityError(
                "the job master cannot be in the allocation",
                why=self.offers.why["master_in_allocation"],
                remedy="set job.master = 'client'",
            )
        commands.program(self._config, "srun")
        files = plan.files
        log = files.step_log(1, 0)
        try:
            files.make()
            files.write(files.ticket, allocation.ticket)
            files.write(files.path(INSIDE), self._allocation.encode())
            plan.save()
            files.write(log, f"slots {states.compress(range(plan.n_workers))}\n".encode())
            self._detach(steps.attempt_script(plan, self._config, [(self._step(plan), str(log))]))
        except BaseException:
            files.remove()
            raise
        return _handle(plan.job_id, self._allocation, plan.folder)

    # -- looking -------------------------------------------------------------------------------------------------------

    def find(self, job_id: str) -> JobHandle | None:
        folder = os.path.join(self._context.state_dir, "jobs", job_id)
        files = Files.of(folder)
        with suppress(OSError):
            number = files.path(INSIDE).read_text("ascii").strip()
            return None if files.cleaned.exists() else _handle(job_id, number, folder)
        return super().find(job_id)

    def state(self, handle: JobHandle) -> JobStatus:
        if not handle.facts.get(INSIDE):
            return super().state(handle)
        files = files_of(handle)
        if files.cleaned.exists() or not files.plan.exists():
            return JobStatus(JobState.UNKNOWN, "nothing is left of it in its allocation")
        slots, plan = self._slots(handle), Plan.load(folder_of(handle))
        if files.killed.exists():
            return JobStatus(JobState.KILLED, "was killed", slots)
        good = all(text == "exited 0" for text in slots.values())
        if good and len(slots) == plan.n_workers:
            return JobStatus(JobState.COMPLETED, "", slots)
        row = self._queue.row(handle.native_id, handle.job_id)
        if row is None or not row.alive:
            return JobStatus(JobState.KILLED, _gone(handle, row), slots)
        if len(slots) < plan.n_workers:
            return self._under_way(handle, plan, slots)
        if ended := self._ended_under_it(handle):
            return JobStatus(JobState.KILLED, ended, slots)
        status = JobStatus(JobState.FAILED, "", slots)
        return attrs.evolve(status, reason=states.with_culprits(status))

    def _under_way(self, handle: JobHandle, plan: Plan, slots: Mapping[int, str]) -> JobStatus:
        """A job of which not all copies have ended, or which could not be started."""
        why = self._refused(handle) or _not_started(plan.files.step_logs()[-1:])
        if why and not slots:
            ended = self._ended_under_it(handle)
            return JobStatus(JobState.KILLED if ended else JobState.FAILED, ended or why)
        return JobStatus(JobState.RUNNING, "", {**dict.fromkeys(range(plan.n_workers), "running"), **slots})

    def _ended_under_it(self, handle: JobHandle) -> str:
        """Why the allocation has ended, or is ending, by whatever else than the job; empty when it stands."""
        row = self._queue.row(handle.native_id, handle.job_id, fresh=True)
        return "" if row is not None and row.state == "RUNNING" else _gone(handle, row)

    def logs(self, handle: JobHandle, *, slot: int | None = None, follow: bool = False) -> Iterator[LogChunk]:
        if not handle.facts.get(INSIDE):
            yield from super().logs(handle, slot=slot, follow=follow)
            return
        files = files_of(handle)
        if not files.plan.exists():
            return
        reader = LogReader(files, lambda: highest(handle), slot)
        while True:
            over = not follow or self.state(handle).state in OVER
            yield from reader.read()
            if over:
                return
            time.sleep(self._config.poll_s)

    def resize(self, handle: JobHandle, n_workers: int, group: ResourceGroup | None = None) -> None:
        if not handle.facts.get(INSIDE):
            super().resize(handle, n_workers, group)
            return
        raise CapabilityError(
            f"job {handle.job_id} cannot be resized to {n_workers} workers",
            why="it runs inside an allocation, which has the size it has",
            remedy="commit, and submit the job again with another number of workers",
        )

    # -- end -----------------------------------------------------------------------------------------------------------

    def kill(self, handle: JobHandle, grace_s: float) -> None:
        if not handle.facts.get(INSIDE):
            super().kill(handle, grace_s)
            return
        files = files_of(handle)
        row = self._queue.row(handle.native_id, handle.job_id, fresh=True)
        if row is None or not row.alive or not files.plan.exists():
            remove_tickets(files)
            return
        if self._steps_over(files):
            remove_tickets(files)
            return
        files.write(files.killed, b"")
        # Elsewhere than on the nodes and here, srun ends with its tasks; one that still waits for room finds the mark
        # of the kill when it comes to start them.
        self._ending.sweep(handle, None, grace_s)
        self._ending.sweep_here(handle)
        remove_tickets(files)

    @staticmethod
    def _steps_over(files: Files) -> bool:
        """Whether every srun of the job has ended."""
        return all(states.STEP_ENDED in _text(path) for path in files.step_logs())

    def clean(self, handle: JobHandle) -> list[str]:
        if not handle.facts.get(INSIDE):
            return super().clean(handle)
        try:
            self.kill(handle, 0.0)
        except ResourceError as error:
            return [f"{error.what}: {error.why}"]
        files = files_of(handle)
        with suppress(ResourceError):
            if files.plan.exists():
                files.write(files.cleaned, b"")
        return []


OVER = (JobState.COMPLETED, JobState.FAILED, JobState.KILLED, JobState.UNKNOWN)


def _handle(job_id: str, number: str, folder: str) -> JobHandle:
    return JobHandle(NAME, job_id, number, {"folder": folder, INSIDE: True})


def _gone(handle: JobHandle, row: states.Row | None) -> str:
    why = states.describe(row) if row is not None else "Slurm knows no such job (any more)"
    return f"its allocation {handle.native_id} has ended: {why}"


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace")
    return ""


def _not_started(logs: list[Path]) -> str:
    """Why the latest srun has ended without having started a task; empty when it has not."""
    text = _text(logs[-1]) if logs else ""
    final = re.search(rf"^{states.STEP_ENDED}(\d+)$", text, re.MULTILINE)
    if final is None or final.group(1) == "0" or states.TASKS.search(text):
        return ""
    lines = re.findall(r"^srun: (?:error: |fatal: )?(.+)$", text, re.MULTILINE)
    said = "; ".join(dict.fromkeys(lines)) or f"srun ended with exit code {final.group(1)}"
    return f"srun could not start the workers here: {said}; ask salloc or sbatch for as much as the job needs"
