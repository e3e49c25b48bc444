"""What an idle job weighs: start it, let it settle, add up its processes, end it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Sequence

from harness.contest import Contest
from harness.process_tree import command_line, descendants, pss_bytes
from harness.runner import adopt_orphans, clear_away

INTERRUPT_S = 10.0
SETTLE_S = {"full": 5.0, "small": 3.0}


def topmost_matching(pids: Sequence[int], pattern: str) -> list[int]:
    """Those of ``pids`` (parents before children) that match and lie below no other that does."""
    found: list[int] = []
    below: set[int] = set()
    for pid in pids:
        if pid not in below and re.search(pattern, command_line(pid)):
            found.append(pid)
            below.update(descendants(pid))
    return found


def shares(sizes: dict[int, int], workers: Sequence[int]) -> list[int]:
    """Bytes of each worker with all processes below it."""
    return [sum(sizes.get(each, 0) for each in (pid, *descendants(pid))) for pid in workers]


def end(process: subprocess.Popen[bytes]) -> None:
    """Interrupt a command, and remove what it leaves."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(INTERRUPT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    clear_away()


def weight(command: Sequence[str], settle_s: float) -> float:
    """All processes of a command that has settled, in 10^6 bytes; 0 when it has ended before."""
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
    try:
        time.sleep(settle_s)
        total = sum(pss_bytes(pid) for pid in descendants(os.getpid())) / 1e6
        return 0.0 if process.poll() is not None else total
    finally:
        end(process)


def main(command: Callable[[int], Sequence[str]]) -> None:
    """The workload: ``command`` starts a job of so many workers. What twice as many weigh more is theirs alone."""
    contest = Contest()
    n = contest.workers

    def job() -> dict[str, object]:
        adopt_orphans()
        once, twice = (weight(command(count), SETTLE_S[contest.size]) for count in (n, 2 * n))
        return {
            "right": once > 0 and twice > once,
            "figures": {f"{n} workers": once, "each worker more": (twice - once) / n},
        }

    contest.report(contest.run(job))
