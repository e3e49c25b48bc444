"""What Slurm knows of the user's jobs: one call for all of them, remembered for a second."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import attrs

from twister2.spec.errors import ResourceError
from twister2_rm_slurm import accounting, commands
from twister2_rm_slurm.states import FIELDS, NO_REASON, Row, parse_scontrol, parse_squeue

if TYPE_CHECKING:
    from twister2_rm_slurm.config import SlurmConfig

FRESH_S = 1.0
BACK_S = 2.0
"""How long it may take until a job that goes back into the queue is shown there."""


class Queue:
    """Reads ``squeue``; where that says too little, ``scontrol``; of jobs it has forgotten, ``sacct``."""

    def __init__(self, config: SlurmConfig, timeout_s: float) -> None:
        self._config = config
        self._timeout_s = timeout_s
        self._rows: dict[str, Row] = {}
        self._read_at = float("-inf")
        self._ended: dict[str, Row] = {}
        self._gone: dict[str, tuple[float, Row | None]] = {}
        self._asked: set[str] = set()

    def forget(self) -> None:
        """Ask anew at the next call."""
        self._read_at = float("-inf")
        self._gone.clear()

    def rows(self, *, fresh: bool = False) -> list[Row]:
        """All jobs of this user that Slurm still shows.

        :raises ResourceError: the controller does not answer.
        """
        if fresh or time.monotonic() - self._read_at > FRESH_S:
            asked = time.monotonic()
            answer = self._run("squeue", "-h", "-t", "all", "-u", str(os.getuid()), "-o", FIELDS)
            if answer.code:
                raise ResourceError(
                    "squeue failed", why=commands.last_line(answer), remedy="try again; 'squeue' shows whether it works"
                )
            self._rows = {row.native_id: row for row in parse_squeue(answer.out)}
            self._read_at = asked
            self._gone.clear()
        return list(self._rows.values())

    def row(self, native_id: str, job_id: str, *, fresh: bool = False) -> Row | None:
        """What Slurm knows of a job, None when nothing (any more).

        :param job_id: ours: job ids of Slurm start anew when its state is lost, so that another job may have this one.
        :raises ResourceError: the controller does not answer.
        """
        if not native_id.isdigit():
            return None
        if native_id in self._ended:
            return self._ended[native_id]
        self._asked.add(native_id)
        self.rows(fresh=fresh)
        row = self._rows.get(native_id)
        if row is not None and not _ours(row, job_id):
            return None
        if row is not None and row.alive:
            return row
        known = self._gone.get(native_id)
        if known is not None and time.monotonic() - known[0] <= FRESH_S:
            return known[1]
        detailed = self._shown(native_id, row) if row is not None else self._forgotten(native_id)
        if detailed is not None and detailed.state == "CANCELLED":
            detailed = attrs.evolve(detailed, state=accounting.cancelled(self._run, native_id) or detailed.state)
        if detailed is not None and not detailed.alive:
            self._ended[native_id] = detailed
        self._gone[native_id] = (time.monotonic(), detailed)
        return detailed

    def glance(self, native_id: str, job_id: str, *, fresh: bool = False, again: bool = False) -> Row | None:
        """As :meth:`row`, but of a job that has ended no more than that: one call, not two or three.

        :param again: also of one that seemed to have ended; it is looked at anew if it has not.
        :raises ResourceError: the controller does not answer.
        """
        if not native_id.isdigit() or (native_id in self._ended and not again):
            return self._ended.get(native_id)
        self.rows(fresh=fresh)
        row = self._rows.get(native_id)
        if row is not None and row.alive:
            self._ended.pop(native_id, None)
        return row if row is not None and _ours(row, job_id) else None

    def again(self, row: Row, job_id: str) -> Row:
        """Look once more at a job that seems to have ended: while it is put back into the queue Slurm may show it as
        failed for a moment.

        :raises ResourceError: the controller does not answer.
        """
        time.sleep(BACK_S)
        back = self.glance(row.native_id, job_id, fresh=True, again=True)
        return back if back is not None and back.alive else row

    def _shown(self, native_id: str, row: Row) -> Row:
        """A job that has ended, with its exit code."""
        answer = self._run("scontrol", "show", "job", "-o", native_id)
        shown = parse_scontrol(answer.out) if answer.code == 0 else None
        if shown is None or shown.state != row.state:
            return row
        reason = row.reason if row.reason not in NO_REASON else shown.reason
        return attrs.evolve(row, exit_code=shown.exit_code, reason=reason)

    def _forgotten(self, native_id: str) -> Row | None:
        """A job that squeue shows no more: one call for all of those that were asked for."""
        now = time.monotonic()
        jobs = [native_id, *sorted(self._asked - {native_id, *self._rows, *self._ended, *self._gone})]
        found = accounting.ask(self._run, jobs)
        for job in jobs:
            self._gone[job] = (now, found.get(job))
            if job in found and not found[job].alive:
                self._ended[job] = found[job]
        return found.get(native_id)

    def _run(self, *arguments: str) -> commands.Answer:
        return commands.run(self._config, arguments, self._timeout_s)


def _ours(row: Row, job_id: str) -> bool:
    found = row.job()
    return found is None or found[0] == job_id
