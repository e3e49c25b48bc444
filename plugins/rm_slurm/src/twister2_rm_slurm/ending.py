"""How jobs are ended: kill, sweep, release."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from twister2.spec.errors import ResourceError
from twister2_rm_slurm import commands, states, steps
from twister2_rm_slurm.plan import Files, Plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2.spec.rm import JobHandle
    from twister2_rm_slurm.config import SlurmConfig
    from twister2_rm_slurm.queue import Queue

OWN_END_S = 0.5
"""How long a kill waits for a job to end by itself, e.g. because its master was just told to."""
SCRIPT_END_S = 7.0
"""How long the script may take from there to its last line; it waits 5 s for the workers."""
RELEASE_S = 3.0
"""How long an allocation that was let go may take to end."""


def folder_of(handle: JobHandle) -> str:
    """The job's folder, empty when the handle names none."""
    return str(handle.facts.get("folder", ""))


def files_of(handle: JobHandle) -> Files:
    """What this plugin keeps of the job."""
    return Files.of(folder_of(handle))


def remove_tickets(files: Files) -> None:
    """Keys do not outlive the job."""
    for path in (files.ticket, files.master_ticket):
        with suppress(OSError):
            path.unlink(missing_ok=True)


class Ending:
    """Ends jobs and single copies, with what Slurm offers and by the marks of processes."""

    def __init__(self, config: SlurmConfig, timeout_s: float, queue: Queue) -> None:
        self._config, self._timeout_s, self._queue = config, timeout_s, queue

    def kill(self, handle: JobHandle, grace_s: float) -> None:
        row = self._queue.row(handle.native_id, handle.job_id, fresh=True)
        if row is None or not row.alive:
            return
        files = files_of(handle)
        if row.state != "PENDING" and self._ends_by_itself(handle, min(grace_s, OWN_END_S)):
            return
        if row.state == "RUNNING" and files.plan.exists():
            with suppress(ResourceError):
                files.write(files.killed, b"")
            # First by their marks: a cluster without cgroups loses sight of processes that left their session.
            with suppress(ResourceError):
                self.sweep(handle, None, grace_s)
        self._cancel(handle)
        end = time.monotonic() + grace_s + self._timeout_s
        while (row := self._queue.row(handle.native_id, handle.job_id, fresh=True)) is not None and row.alive:
            if time.monotonic() > end:
                raise ResourceError(
                    f"job {handle.job_id} was cancelled, but Slurm still shows it as {row.state}",
                    why=states.describe(row) or "a node does not answer, or a process cannot be ended",
                    remedy="call it again later; 'squeue' shows whether it is gone",
                    where=f"Slurm job {handle.native_id}",
                )
            time.sleep(self._config.poll_s)
        remove_tickets(files_of(handle))

    def _ends_by_itself(self, handle: JobHandle, patience_s: float) -> bool:
        """Whether the job is at its own end anyway: a job that did its work should not show as cancelled in Slurm."""
        files = files_of(handle)
        end = time.monotonic() + patience_s
        while not files.ended.exists():
            if time.monotonic() >= end:
                return False
            time.sleep(0.05)
        end = time.monotonic() + SCRIPT_END_S
        while time.monotonic() < end:
            row = self._queue.row(handle.native_id, handle.job_id, fresh=True)
            if row is None or not row.alive:
                remove_tickets(files_of(handle))
                return True
            time.sleep(min(self._config.poll_s, 0.1))
        return False

    def _cancel(self, handle: JobHandle) -> None:
        answer = commands.run(self._config, ["scancel", handle.native_id], self._timeout_s)
        if answer.code and not answer.says((*commands.UNKNOWN_JOB, *commands.TOO_LATE)):
            raise ResourceError(
                f"job {handle.job_id} could not be cancelled",
                why=commands.last_line(answer),
                remedy="do it as the user who submitted the job, or ask an administrator",
                where=f"Slurm job {handle.native_id}",
            )

    def release(self, handle: JobHandle) -> None:
        """Let an allocation go that is held for another attempt: it then ends by itself, with its own exit code."""
        with suppress(ResourceError):
            row = self._queue.row(handle.native_id, handle.job_id)
            if row is None or row.state != "RUNNING" or Plan.load(folder_of(handle)).master_command:
                return
            files = files_of(handle)
            files.write(files.released, b"")
            end = time.monotonic() + RELEASE_S
            while row is not None and row.alive and time.monotonic() < end:
                time.sleep(self._config.poll_s)
                row = self._queue.row(handle.native_id, handle.job_id, fresh=True)

    def sweep(self, handle: JobHandle, slots: Sequence[int] | None, grace_s: float) -> None:
        """End marked processes on all nodes of a running allocation.

        :raises ResourceError: some are left, or a node did not answer.
        """
        environment = commands.environment(self._config)
        environment.pop(steps.JOB, None)
        step = steps.sweep_step(handle.native_id, handle.job_id, slots, grace_s)
        answer = commands.run(self._config, step, grace_s + self._timeout_s, environment)
        if answer.says(commands.TOO_LATE):
            return
        left = sum(int(word) for word in answer.out.split() if word.isdigit())
        if answer.code or left:
            raise ResourceError(
                f"not all copies of job {handle.job_id} could be ended",
                why=commands.last_line(answer) if answer.code else f"{left} processes are left after a kill",
                remedy=f"cancel the whole job: 'scancel {handle.native_id}'",
                where=f"Slurm job {handle.native_id}",
            )
