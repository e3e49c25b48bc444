"""Ending processes for good: first asked, then killed, and looked for until none is left."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Collection

from twister2.spec.errors import ResourceError
from twister2.spec.processes import await_ends
from twister2_rm_standalone.procfs import (
    JOB_MARKER,
    MASTER_MARKER,
    Process,
    alive,
    carries,
    family,
    processes,
)

Members = Callable[[], list[Process]]
POLL_S = 0.003
"""How often to look whether somebody is left."""
OLDER_S = 600
"""A job's master may be so much older than its first launcher, and nothing else of it is older at all."""


def job_members(job_id: str, launchers: Collection[tuple[int, int]]) -> list[Process]:
    """Every process of a job but the calling one and its ancestors.

    That is: all that carry the job's marker in the environment they were started with, and all descendants of a
    launcher, whatever their environment. A master on its own (:data:`MASTER_MARKER`) belongs to it too. What is much
    older than the first launcher has its environment from elsewhere, and is not asked for it.
    """
    everyone = list(processes())
    markers = (f"{JOB_MARKER}={job_id}".encode(), f"{MASTER_MARKER}={job_id}".encode())
    roots = {pid for pid, start in launchers if alive(pid, start)}
    found = {process.pid: process for process in family(roots, everyone)}
    oldest = min((start for _, start in launchers), default=0) - OLDER_S * os.sysconf("SC_CLK_TCK")
    found |= {process.pid: process for process in everyone if process.start >= oldest and carries(process, markers)}
    ours = _own_line(everyone)
    return [process for pid, process in found.items() if pid not in ours]


def _own_line(everyone: Collection[Process]) -> set[int]:
    parents = {process.pid: process.parent for process in everyone}
    line, pid = set(), os.getpid()
    while pid and pid not in line:
        line.add(pid)
        pid = parents.get(pid, 0)
    return line


def end(members: Members, ask_first: Collection[int], grace_s: float, deadline_s: float, what: str) -> None:
    """Ask, wait at most ``grace_s``, kill, and look again until nothing is left.

    :param ask_first: leaders asked first, with TERM; the others are asked when these have gone.
    :raises ResourceError: something is left after ``deadline_s`` more (a process the kernel does not let go).
    """
    found = left = members()
    leaders = [process for process in left if process.pid in ask_first] or left
    for process in leaders:
        process.signal(signal.SIGTERM)
    asked = {process.pid for process in leaders}
    kill_at = time.monotonic() + grace_s
    while left and time.monotonic() < kill_at:
        await_ends((process.pid for process in left), POLL_S)
        left = members()
        if not any(process.pid in ask_first for process in left):
            for process in left:
                if process.pid not in asked:
                    asked.add(process.pid)
                    process.signal(signal.SIGTERM)
    give_up = time.monotonic() + deadline_s
    if found and not left:
        left = _look_again(members)
    while left:
        for process in left:
            process.signal(signal.SIGKILL)
        if time.monotonic() > give_up:
            raise ResourceError(
                f"{what} could not be ended",
                why="these processes are still there after SIGKILL: "
                + ", ".join(f"{process.pid} (state {process.state})" for process in left),
                remedy="state D waits for a device or a network file system; they go when that answers",
            )
        await_ends((process.pid for process in left), POLL_S)
        left = members() or _look_again(members)


def _look_again(members: Members) -> list[Process]:
    """A process that is just replacing itself (exec) shows no environment for a moment, and is not found by it."""
    time.sleep(POLL_S)
    return members()
