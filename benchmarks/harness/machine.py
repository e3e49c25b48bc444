"""What the machine is, without any name of it, and how busy it is."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import time
from pathlib import Path


def description() -> dict[str, str]:
    """Processor, cores that may be used, memory, operating system; Java when there is one (PySpark runs on it)."""
    model = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    found = {
        "processor": model[1] if model else platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory / 2**30:.0f} GiB",
        "system": f"Linux {platform.release().split('-')[0]}",
    }
    if shutil.which("java"):
        said = subprocess.run(["java", "-version"], check=False, capture_output=True, text=True, timeout=60).stderr
        version = re.search(r'version "([^"]+)"', said)
        if version:
            found["java"] = version[1]
    return found


def busy(over_s: float = 0.5) -> float:
    """The share of the machine's time that was used during the next ``over_s`` seconds, 0 to 1."""

    def used_and_total() -> tuple[int, int]:
        ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return sum(ticks) - ticks[3] - ticks[4], sum(ticks)

    used, total = used_and_total()
    time.sleep(over_s)
    used_later, total_later = used_and_total()
    return (used_later - used) / max(1, total_later - total)


def wait_until_quiet(below: float, limit_s: float) -> float:
    """Wait until the machine is less busy than ``below``, at most ``limit_s``; how busy it was last."""
    deadline = time.monotonic() + limit_s
    while (share := busy()) > below and time.monotonic() < deadline:
        pass
    return share
