"""Looking at processes of this machine from tests."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def wait_until(condition: Callable[[], bool], seconds: float, why: Callable[[], str]) -> None:
    """Wait for a condition; fail the test with ``why()`` at the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"after {seconds} s: {why()}", pytrace=False)
        time.sleep(0.01)


def exit_code(pid: int, seconds: float = 60.0) -> int:
    """Wait for the end of a child; its exit code, negative for a signal. After ``seconds`` it is killed and the test
    fails.
    """
    deadline = time.monotonic() + seconds
    while not (found := os.waitpid(pid, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            pytest.fail(f"process {pid} did not end within {seconds} s", pytrace=False)
        time.sleep(0.005)
    return os.waitstatus_to_exitcode(found[1])


def ended(pid: int) -> bool:
    """Whether a process is gone; a zombie counts as gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rsplit(b")", 1)[1].split()[0] in (b"Z", b"X")
    except OSError:
        return True


def start_of(pid: int) -> int:
    """When a process (zombies too) was started, in clock ticks since boot; 0 when it is gone."""
    text = _read(pid, "stat")
    return int(text.rsplit(b")", 1)[1].split()[19]) if text else 0


def _read(pid: int, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:
        return b""


def process_ids() -> list[int]:
    """All processes that can be seen."""
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def cmdlines_and_environments() -> Iterator[tuple[int, bytes]]:
    """Process id, and command line with the environment the process was started with; not of this process."""
    for pid in process_ids():
        if pid != os.getpid():
            yield pid, _read(pid, "cmdline") + b"\0" + _read(pid, "environ")


def carrying(text: str) -> list[int]:
    """Running processes (not this one) with ``text`` in their command line or environment."""
    return [pid for pid, found in cmdlines_and_environments() if text.encode() in found and not ended(pid)]


def children() -> list[int]:
    """Direct children of this process, zombies included."""
    text = "".join(_read(os.getpid(), f"task/{thread}/children").decode() for thread in os.listdir("/proc/self/task"))
    return [int(pid) for pid in text.split()]
