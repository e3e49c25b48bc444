"""How jobs are ended: kill, sweep, release."""

from __future__ import annotations

import os
import re
import subprocess
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from twister2.spec.errors import ResourceError
from twister2_rm_slurm import commands, states, steps
from twister2_rm_slurm.files import files_of, folder_of
from twister2_rm_slurm.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2.spec.rm import JobHandle
    from twister2_rm_slurm.config import SlurmConfig
    from twister2_rm_slurm.files import Files
    from twister2_rm_slurm.more import More
    from twister2_rm_slurm.queue import Queue

OWN_END_S = 0.5
"""How long a kill waits for a job to end by itself, e.g. because its master was just told to."""
SCRIPT_END_S = 7.0
"""How long the script may take from there to its last line; it waits 5 s for the workers."""
SRUN_END_S = 1.0
"""How long an srun may take to end once it was told to."""
RELEASE_S = 3.0
"""How long an allocation that was let go may take to end."""


def remove_tickets(files: Files) -> None:
    """Keys do not outlive the job."""
    for path in (files.ticket, files.master_ticket):
        with suppress(OSError):
            path.unlink(missing_ok=True)


class Ending:
    """Ends jobs and single copies, with what Slurm offers and by the marks of processes."""

    def __init__(self, config: SlurmConfig, timeout_s: float, queue: Queue, more: More) -> None:
        self._config, self._timeout_s, self._queue, self._more = config, timeout_s, queue, more

    def kill(self, handle: JobHandle, grace_s: float) -> None:
        row = self._queue.glance(handle.native_id, handle.job_id, fresh=True)
        if row is not None and not row.alive and self._config.requeue and not files_of(handle).ended.exists():
            row = self._queue.again(row, handle.job_id)
        if row is not None and row.alive and not self._at_its_end(handle, row, grace_s):
            self._end(handle, row, grace_s)
            remove_tickets(files_of(handle))
        self._end_more(handle)

    def _at_its_end(self, handle: JobHandle, row: states.Row, grace_s: float) -> bool:
        """Whether the job ends without being cancelled: a job that did its work, or failed, should not show as
        cancelled in Slurm.
        """
        if row.state == "PENDING":
            return False
        if self._ends_by_itself(handle, min(grace_s, OWN_END_S)):
            return True
        if row.state != "RUNNING" or not files_of(handle).plan.exists() or not self._is_done(handle):
            return False
        if _held(handle):
            return self._let_go(handle)
        # The last copy has gone, and on a busy node srun and the script have not noticed yet.
        return grace_s > 0 and self._ends_by_itself(handle, SCRIPT_END_S)

    def _end(self, handle: JobHandle, row: states.Row, grace_s: float) -> None:
        files = files_of(handle)
        more = self._more.alive(handle)
        if row.state == "RUNNING" and files.plan.exists():
            with suppress(ResourceError):
                files.write(files.killed, b"")
            # First by their marks: a cluster without cgroups loses sight of processes that left their session.
            with suppress(ResourceError):
                self.sweep(handle, None, grace_s)
            for native_id in (each for each, found in more.items() if found.state == "RUNNING"):
                with suppress(ResourceError):
                    self.sweep_in(native_id, handle, None, grace_s)
        self._cancel(handle)
        self._more.cancel([*more])
        end = time.monotonic() + grace_s + self._timeout_s
        while (
            row_now := self._queue.glance(handle.native_id, handle.job_id, fresh=True)
        ) is not None and row_now.alive:
            if time.monotonic() > end:
                raise _still_there(handle, handle.native_id, row_now)
            time.sleep(self._config.poll_s)
            if row_now.state == "PENDING":  # it went back into the queue while it was being ended
                self._cancel(handle)

    def _end_more(self, handle: JobHandle) -> None:
        """End the additional jobs, too: those that run end with the job, or are cancelled."""
        end = time.monotonic() + self._timeout_s
        told: set[str] = set()
        while more := self._more.alive(handle):
            self._more.cancel([each for each in more if each not in told])
            told.update(more)
            if time.monotonic() > end:
                native_id, row = next(iter(more.items()))
                raise _still_there(handle, native_id, row)
            time.sleep(self._config.poll_s)
            self._queue.forget()

    def _is_done(self, handle: JobHandle) -> bool:
        """Whether all copies have begun, and none runs any more."""
        with suppress(ResourceError):
            plan = Plan.load(folder_of(handle))
            begun = all(plan.files.slot_log(slot, "stdout").exists() for slot in range(plan.n_workers))
            if begun and not self._more.alive(handle):
                step = steps.count_step(handle.native_id, handle.job_id, len(plan.shapes))
                return not self._on_nodes(handle, step, 0.0, handle.native_id)
        return False

    def _let_go(self, handle: JobHandle) -> bool:
        """Let an allocation go that is held for another attempt: it then ends by itself, with its own exit code.

        :returns: whether it has.
        """
        files = files_of(handle)
        with suppress(ResourceError):
            files.write(files.released, b"")
            end = time.monotonic() + RELEASE_S
            while time.monotonic() < end:
                row = self._queue.glance(handle.native_id, handle.job_id, fresh=True)
                if row is None or not row.alive:
                    remove_tickets(files)
                    return True
                time.sleep(min(self._config.poll_s, 0.1))
        return False

    def _ends_by_itself(self, handle: JobHandle, patience_s: float) -> bool:
        """Whether the job is at its own end anyway: a job that did its work should not show as cancelled in Slurm."""
        files = files_of(handle)
        end = time.monotonic() + patience_s
        while not files.ended.exists():
            if time.monotonic() >= end or _held(handle):
                return False
            time.sleep(0.05)
        end = time.monotonic() + SCRIPT_END_S
        while time.monotonic() < end:
            row = self._queue.glance(handle.native_id, handle.job_id, fresh=True)
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

    def sweep(self, handle: JobHandle, slots: Sequence[int] | None, grace_s: float) -> None:
        """End marked processes on all nodes of a running allocation.

        :raises ResourceError: some are left, or a node did not answer.
        """
        components = 1
        with suppress(ResourceError):
            components = len(Plan.load(folder_of(handle)).shapes)
        self.sweep_in(handle.native_id, handle, slots, grace_s, components)

    def sweep_in(
        self, native_id: str, handle: JobHandle, slots: Sequence[int] | None, grace_s: float, components: int = 1
    ) -> None:
        """The same in a given allocation, which may be one of several of a job."""
        step = steps.sweep_step(native_id, handle.job_id, slots, grace_s, components)
        if left := self._on_nodes(handle, step, grace_s, native_id):
            raise self._not_ended(handle, f"{left} processes are left after a kill")

    def sweep_here(self, handle: JobHandle) -> None:
        """End the sruns of a job that run on this host, whether they have tasks or still wait for room."""
        environment = {name: value for name, value in os.environ.items() if name != steps.JOB}
        with suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(
                steps.local_sweep(handle.job_id, None, SRUN_END_S),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=self._timeout_s,
                check=False,
            )

    def _on_nodes(self, handle: JobHandle, step: Sequence[str], grace_s: float, native_id: str) -> int:
        """The sum of the numbers that a step prints on all nodes; 0 when the allocation has just ended.

        :raises ResourceError: a node did not answer.
        """
        environment = commands.environment(self._config)
        environment.pop(steps.JOB, None)
        answer = commands.run(self._config, step, grace_s + self._timeout_s, environment)
        if answer.says(commands.TOO_LATE):
            return 0
        if answer.code:
            row = self._queue.glance(native_id, handle.job_id, fresh=True)
            if row is None or row.state != "RUNNING":  # it ended meanwhile, and the step with it
                return 0
            raise self._not_ended(handle, commands.last_line(answer))
        return sum(int(word) for word in answer.out.split() if word.isdigit())

    @staticmethod
    def _not_ended(handle: JobHandle, why: str) -> ResourceError:
        return ResourceError(
            f"not all copies of job {handle.job_id} could be ended",
            why=why,
            remedy=f"cancel the whole job: 'scancel {handle.native_id}'",
            where=f"Slurm job {handle.native_id}",
        )


def _still_there(handle: JobHandle, native_id: str, row: states.Row) -> ResourceError:
    return ResourceError(
        f"job {handle.job_id} was cancelled, but Slurm still shows it as {row.state}",
        why=states.describe(row) or "a node does not answer, or a process cannot be ended",
        remedy="call it again later; 'squeue' shows whether it is gone",
        where=f"Slurm job {native_id}",
    )


def _held(handle: JobHandle) -> bool:
    """Whether the script keeps the allocation for another attempt: it then comes to no end of its own."""
    with suppress(OSError, ResourceError):
        plan = Plan.load(folder_of(handle))
        first = [path for path in plan.files.step_logs() if path.name.startswith("step-0001-")]
        texts = [path.read_text(encoding="utf-8", errors="replace") for path in first]
        failed = any(re.search(rf"^{states.STEP_ENDED}[1-9]", text, re.MULTILINE) for text in texts)
        return failed and not plan.master_command
    return False
