"""What the processes of a job weigh, with shared pages counted once (PSS), each of them and in sum.

    python idle_memory.py --pid PID
    python idle_memory.py --settle 3 -- twister2 submit standalone -o job.workers=2 idle_program.py 60

The first form looks at a process that runs already and all below it. The second starts a command, waits until it has
settled, looks, and interrupts it. With --worker PATTERN each topmost process whose command line matches is taken for a
worker, and its share (itself and all below it) is given too.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence

from harness.idle import end, shares, topmost_matching
from harness.process_tree import command_line, descendants, pss_bytes
from harness.runner import adopt_orphans


def show(pids: Sequence[int], worker_pattern: str) -> None:
    sizes = {pid: pss_bytes(pid) for pid in pids}
    for pid, size in sizes.items():
        print(f"{size / 1e6:8.1f} MB  {pid:>8}  {command_line(pid)[:100]}")
    print(f"{sum(sizes.values()) / 1e6:8.1f} MB  in all, {len(pids)} processes")
    if worker_pattern:
        workers = topmost_matching(pids, worker_pattern)
        for pid, share in zip(workers, shares(sizes, workers), strict=True):
            print(f"{share / 1e6:8.1f} MB  worker {pid} with {len(descendants(pid))} processes below it")


def measure_command(command: Sequence[str], settle_s: float, worker_pattern: str) -> int:
    """Start, settle, show, interrupt; 1 when the command had ended before it was looked at."""
    adopt_orphans()
    process = subprocess.Popen(command, start_new_session=True)
    try:
        time.sleep(settle_s)
        if process.poll() is not None:
            print(f"the command ended with exit code {process.returncode} before it was looked at", file=sys.stderr)
            return 1
        show(descendants(os.getpid()), worker_pattern)
        return 0
    finally:
        end(process)


def main() -> int:
    parser = argparse.ArgumentParser(description="Sum the memory of a job's processes, shared pages counted once.")
    parser.add_argument("--pid", type=int, help="look at this running process and all below it")
    parser.add_argument("--settle", type=float, default=3, help="seconds between the start of the command and the look")
    parser.add_argument("--worker", default="", metavar="PATTERN", help="what the command line of a worker matches")
    parser.add_argument("command", nargs="*", help="command to start, after --")
    args = parser.parse_args()
    if (args.pid is None) == (not args.command):
        parser.error("give either --pid or a command")
    if args.pid is None:
        return measure_command(args.command, args.settle, args.worker)
    show([pid for pid in (args.pid, *descendants(args.pid)) if pid != os.getpid()], args.worker)
    return 0


if __name__ == "__main__":
    sys.exit(main())
