"""Run one command and measure it: time from spawn to exit, CPU time, memory of its tree, what it left behind."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.process_tree import PeakMemory, descendants

_PR_SET_CHILD_SUBREAPER = 36
_MIN_SAMPLES = 5
_LEAVE_S = 0.5
"""How long processes may take to vanish after the command itself has ended; what is left then is counted and killed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one command did.

    ``exit_code`` is None when it exceeded its time limit and was killed; ``peak_pss_bytes`` is None when it was over
    too soon to say.
    """

    exit_code: int | None
    wall_s: float
    cpu_s: float
    peak_pss_bytes: int | None
    processes: int
    left_behind: int
    stdout: str
    stderr: str


def adopt_orphans() -> None:
    """Make this process the parent of its orphaned descendants, so that none escapes from the count."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def run_command(command: Sequence[str], *, env: Mapping[str, str], limit_s: float) -> Outcome:
    """Run ``command`` to its end, or kill it after ``limit_s``.

    The caller has called :func:`adopt_orphans` and has no other children.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with PeakMemory(os.getpid()) as memory:
            begin = time.monotonic()
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=env, start_new_session=True
            )
            ended = _await_exit(process.pid, limit_s)
            wall_s = time.monotonic() - begin
        if not ended:
            process.kill()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        left_behind, orphans_cpu_s = clear_away()
        out.seek(0)
        err.seek(0)
        return Outcome(
            exit_code=process.returncode if ended else None,
            wall_s=wall_s,
            cpu_s=usage.ru_utime + usage.ru_stime + orphans_cpu_s,
            peak_pss_bytes=memory.peak_bytes if memory.samples >= _MIN_SAMPLES else None,
            processes=memory.processes,
            left_behind=left_behind,
            stdout=out.read().decode(errors="replace"),
            stderr=err.read().decode(errors="replace"),
        )


def _await_exit(pid: int, limit_s: float) -> bool:
    descriptor = os.pidfd_open(pid)
    try:
        return bool(select.select([descriptor], [], [], limit_s)[0])
    finally:
        os.close(descriptor)


def clear_away() -> tuple[int, float]:
    """Wait for the orphans of commands that have ended, kill those that stay; how many, and all orphans' CPU time."""
    left: set[int] = set()
    cpu_s = 0.0
    kill_at = time.monotonic() + _LEAVE_S
    while True:
        try:
            pid, _, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return len(left), cpu_s
        if pid:
            cpu_s += usage.ru_utime + usage.ru_stime
            continue
        if time.monotonic() > kill_at:
            for living in descendants(os.getpid()):
                left.add(living)
                os.kill(living, signal.SIGKILL)
        time.sleep(0.01)
