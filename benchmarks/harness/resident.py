"""What a process has resident, page cache left out: its own pages and those of shared memory."""

from __future__ import annotations

import threading
from types import TracebackType

_PERIOD_S = 0.01


def resident_mb() -> float:
    """Now, in 10^6 bytes."""
    kib = 0
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith(("RssAnon:", "RssShmem:")):
                kib += int(line.split()[1])
    return kib * 1024 / 1e6


class Resident:
    """Notes the most that there was inside of a ``with`` block, by looking often.

    :ivar peak_mb: in 10^6 bytes.
    """

    def __init__(self) -> None:
        self.peak_mb = resident_mb()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="resident", daemon=True)

    def _watch(self) -> None:
        while not self._end.wait(_PERIOD_S):
            self.peak_mb = max(self.peak_mb, resident_mb())

    def __enter__(self) -> Resident:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
        self.peak_mb = max(self.peak_mb, resident_mb())
