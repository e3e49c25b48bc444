"""Memory of a tree of processes, shared pages counted once (the sum of proportional set sizes, PSS). Linux only."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from types import TracebackType

_MIN_INTERVAL_S = 0.02
_COST_FACTOR = 30.0
"""A sample is followed by a pause this many times as long as it took, so sampling costs at most 3 % of one core."""


def descendants(root: int) -> list[int]:
    """The living processes below ``root`` (which is not among them), parents before children."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", "rb") as file:
                    status = file.read()
            except OSError:  # ended meanwhile
                continue
            state, parent = status.rsplit(b")", 1)[1].split(maxsplit=2)[:2]
            if state != b"Z":
                children.setdefault(int(parent), []).append(int(entry))
    found: list[int] = []
    pending = [root]
    while pending:
        below = children.get(pending.pop(), [])
        found += below
        pending += below
    return found


def pss_bytes(pid: int) -> int:
    """The proportional set size of one process; 0 when it has ended or may not be looked into."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        return 0
    return 0


def command_line(pid: int) -> str:
    """The words of a process's command line, joined by blanks; empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


class PeakMemory:
    """Watches everything below ``root`` while entered; then holds the largest PSS sum and number of processes seen.

    After a few samples only the peak means nothing: ``samples`` says how many there were.
    """

    def __init__(self, root: int) -> None:
        self.samples = 0
        self.peak_bytes = 0
        self.processes = 0
        self._root = root
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak-memory", daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        pause = _MIN_INTERVAL_S
        while not self._stop.wait(pause):
            begin = time.monotonic()
            pids = descendants(self._root)
            self.processes = max(self.processes, len(pids))
            self.peak_bytes = max(self.peak_bytes, sum(map(pss_bytes, pids)))
            self.samples += 1
            pause = max(_MIN_INTERVAL_S, _COST_FACTOR * (time.monotonic() - begin))
