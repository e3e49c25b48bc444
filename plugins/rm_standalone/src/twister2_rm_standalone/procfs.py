"""Processes of this machine as ``/proc`` shows them: identity that survives reuse of ids, markers, families.

Imported by the launcher too, so it must stay cheap: nothing beyond ``os`` and ``signal``.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

BY_PIPE = "-"
"""Given to a launcher in place of the order's path: it comes as a line on stdin."""
JOB_MARKER = "TWISTER2_JOB"
MASTER_MARKER = "TWISTER2_MASTER_OF"


class Process:
    """A process as last seen. ``start`` (clock ticks since boot) tells it from a later one with the same id."""

    __slots__ = ("parent", "pid", "session", "start", "state")

    def __init__(self, pid: int, parent: int, session: int, state: str, start: int) -> None:
        self.pid, self.parent, self.session, self.state, self.start = pid, parent, session, state, start

    def signal(self, number: int) -> bool:
        """Send a signal to exactly this process; returns whether it was still there."""
        try:
            handle = os.pidfd_open(self.pid)
        except AttributeError:  # a Python for systems that do not have it
            return self._signal_by_id(number)
        except OSError:
            return False
        try:
            now = look(self.pid)
            if now is None or now.start != self.start:
                return False
            signal.pidfd_send_signal(handle, number)
            return True
        except ProcessLookupError:
            return False
        finally:
            os.close(handle)

    def _signal_by_id(self, number: int) -> bool:
        if not alive(self.pid, self.start):
            return False
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True


def look(pid: int, *, zombies: bool = False) -> Process | None:
    """The process with this id, None when there is none; a zombie counts as gone unless asked for."""
    try:
        file = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)  # many are read: no buffers are made
    except OSError:
        return None
    try:
        text = os.read(file, 4096)
    except OSError:
        return None
    finally:
        os.close(file)
    # the name in parentheses may hold anything, blanks and parentheses included
    fields = text[text.rindex(b")") + 2 :].split()
    state = fields[0].decode()
    if state in "ZX" and not zombies:
        return None
    return Process(pid, int(fields[1]), int(fields[3]), state, int(fields[19]))


def alive(pid: int, start: int) -> bool:
    """Whether the very process that had this id and start time still runs."""
    process = look(pid)
    return process is not None and process.start == start


def start_of(pid: int) -> int:
    """Start time of a process (zombies too) in clock ticks since boot, 0 when it is gone."""
    process = look(pid, zombies=True)
    return process.start if process else 0


def processes() -> Iterator[Process]:
    """All processes of this user that can be seen."""
    user = os.getuid()
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        try:
            if os.stat(f"/proc/{entry}").st_uid != user:
                continue
        except OSError:
            continue
        process = look(int(entry))
        if process is not None:
            yield process


def carries(process: Process, markers: Collection[bytes]) -> bool:
    """Whether the environment a process was started with holds one of these ``NAME=value``."""
    try:
        with open(f"/proc/{process.pid}/environ", "rb") as file:
            variables = file.read().split(b"\0")
    except OSError:
        return False
    return any(marker in variables for marker in markers)


def family(roots: Collection[int], everyone: Collection[Process]) -> list[Process]:
    """The processes with these ids and all their descendants."""
    children: dict[int, list[Process]] = {}
    for process in everyone:
        children.setdefault(process.parent, []).append(process)
    found = [process for process in everyone if process.pid in roots]
    seen = {process.pid for process in found}
    for process in found:
        for child in children.get(process.pid, ()):
            if child.pid not in seen:
                seen.add(child.pid)
                found.append(child)
    return found


def slot_members(job_id: str, slot: int, pid: int, everyone: Collection[Process]) -> list[Process]:
    """Every process of one copy: it, its descendants, its session, and what was started with its environment."""
    marker = f"TWISTER2_SLOT={slot}".encode()
    found = {process.pid: process for process in family({pid}, everyone)}
    for process in everyone:
        if process.session == pid or (
            carries(process, [marker]) and carries(process, [f"{JOB_MARKER}={job_id}".encode()])
        ):
            found[process.pid] = process
    return [process for process in found.values() if process.pid != os.getpid()]


def place() -> dict[str, str]:
    """What a process id means something in: this boot of this host, this process namespace."""
    with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
        boot = file.read().strip()
    return {"host": os.uname().nodename, "boot": boot, "namespace": os.readlink("/proc/self/ns/pid")}
