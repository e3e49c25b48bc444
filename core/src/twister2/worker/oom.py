"""Whether the kernel has ended processes for lack of memory, as this process's control group says (version 1 or 2)."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
HOST = Path("/proc/vmstat")
LATELY_S = 15.0
NO_LIMIT = 1 << 60
"""Version 1 writes the largest number of pages that there is, in bytes."""


class MemoryGroup:
    """The control group that counts the memory of this process and of what it forks; perhaps there is none."""

    def __init__(self, root: Path = ROOT, own: Path = OWN, host: Path = HOST) -> None:
        lines = [line.split(":", 2) for line in _read(own).splitlines()]
        paths = {name: path.lstrip("/") for _, names, path in lines for name in names.split(",")}
        self._second = (root / "cgroup.controllers").exists()
        self._top = root if self._second else root / "memory"
        folder = self._top / paths.get("" if self._second else "memory", "")
        self._folder = folder if folder.is_dir() else self._top  # seen from inside of a container
        # local (since Linux 5.2): a group of version 2 counts what happens in those below it, too
        names = ("memory.events.local", "memory.events") if self._second else ("memory.oom_control",)
        files = [self._folder / name for name in names]
        # No groups are to be seen where Nomad isolates a task.
        self._counts = next((file for file in files if file.exists()), host)

        self.begin()

    def begin(self) -> None:
        """What has been until now does not count."""
        self._before = self._latest = self.kills()
        self._noted = time.monotonic()

    def note(self) -> None:
        """To be called now and then: what was longer ago than :data:`LATELY_S` counts no more, of a neighbour, say."""
        if time.monotonic() - self._noted > LATELY_S:
            self._before, self._latest, self._noted = self._latest, self.kills(), time.monotonic()

    def killed_lately(self) -> bool:
        """Whether the kernel has ended a process of the group of late."""
        return self.kills() > self._before

    def kills(self) -> int:
        """How many of its processes the kernel has ended for lack of memory; of its host's where it shows no groups."""
        return _number(self._counts, "oom_kill")

    def limit_mb(self) -> int:
        """MiB that it may have, by its own limit and those of the groups above it; 0: none is to be seen."""
        if self._second:
            above = [folder for folder in (self._folder, *self._folder.parents) if folder.is_relative_to(self._top)]
            texts = [_read(folder / "memory.max").strip() for folder in above]
            limits = [int(text) for text in texts if text.isdecimal()]
        else:
            limits = [_number(self._folder / "memory.stat", "hierarchical_memory_limit")]
        return min((limit for limit in limits if 0 < limit < NO_LIMIT), default=0) >> 20


def _number(path: Path, name: str) -> int:
    """The number behind a name, in a file of such lines; 0: there is none."""
    found = dict(line.split(" ", 1) for line in _read(path).splitlines() if " " in line)
    return int(found.get(name, 0))


def _read(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text("utf-8")
    return ""
