"""Jobs that live more than once: a job master that has died is started again where it was, and a whole job goes back
into Slurm's queue and runs anew.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

import attrs

from twister2.spec.errors import ResourceError
from twister2.spec.rm import JobState
from twister2_rm_slurm import commands, states
from twister2_rm_slurm.files import files_of

if TYPE_CHECKING:
    from twister2.spec.rm import JobHandle, JobStatus
    from twister2_rm_slurm.config import SlurmConfig
    from twister2_rm_slurm.queue import Queue


RESTARTS = "TWISTER2_RESTARTS"
"""Variable of all processes of a job: how often it has begun to run again."""


class Lives:
    """What a job master asks of its manager about lives after this one."""

    def __init__(self, config: SlurmConfig, timeout_s: float, queue: Queue) -> None:
        self._config, self._timeout_s, self._queue = config, timeout_s, queue

    def remember(self, handle: JobHandle, note: bytes, ended: JobState | None) -> None:
        """See :meth:`twister2.spec.rm.ResourceManager.remember`."""
        files = files_of(handle)
        files.write(files.note, note)
        if ended is not None:
            files.write(files.outcome, ended.value.encode())

    def remembered(self, handle: JobHandle) -> bytes | None:
        """See :meth:`twister2.spec.rm.ResourceManager.remembered`."""
        path = files_of(handle).note
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ResourceError(
                f"cannot read {path}", why=error.strerror or str(error), remedy="see whether the shared disk is there"
            ) from error

    def master_returns(self, handle: JobHandle) -> bool:
        """See :meth:`twister2.spec.rm.ResourceManager.master_returns`."""
        files = files_of(handle)
        if files.killed.exists() or files.outcome.exists():
            return False
        row = self._queue.row(handle.native_id, handle.job_id, fresh=True)
        if row is None:
            return False
        if row.state == "RUNNING":
            with suppress(OSError, ValueError):
                return int(files.restarts_left.read_text("ascii")) > 0
            return False
        if not self._config.requeue:
            return False
        answer = commands.run(self._config, ["scontrol", "show", "job", "-o", handle.native_id], self._timeout_s)
        return answer.code == 0 and states.goes_back(answer.out, int(os.environ.get(RESTARTS) or 0))

    def renew(self, handle: JobHandle) -> None:
        """See :meth:`twister2.spec.rm.ResourceManager.renew`. Slurm itself lets the job wait for two minutes then."""
        answer = commands.run(self._config, ["scontrol", "requeue", handle.native_id], self._timeout_s)
        if answer.code:
            raise ResourceError(
                f"job {handle.job_id} could not be put back into the queue",
                why=commands.last_line(answer),
                remedy="submit it again; 'scontrol show job' shows whether it may be requeued",
                where=f"Slurm job {handle.native_id}",
            )

    def without_first_node(self, handle: JobHandle, status: JobStatus) -> JobStatus:
        """Slurm lets the job run on its other nodes, where nothing comes of it: back into the queue, or failed."""
        reason = "its first node failed, and with it the job's script and its job master"
        if not self._config.requeue:
            return attrs.evolve(status, state=JobState.FAILED, reason=reason)
        try:
            self.renew(handle)
        except ResourceError as error:
            row = self._queue.row(handle.native_id, handle.job_id, fresh=True)
            if row is not None and row.headless:  # else another has done it at this moment
                reason = f"{reason}; {error.what}: {error.why}"
                return attrs.evolve(status, state=JobState.FAILED, reason=reason)
        self._queue.forget()
        return attrs.evolve(status, state=JobState.RESTARTING, reason=f"is put back into the queue: {reason}")
