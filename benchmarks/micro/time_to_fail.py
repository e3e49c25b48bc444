"""How long the other workers wait when one is killed, calls something else, returns or raises, with default settings.

    python benchmarks/micro/time_to_fail.py --rounds 5 --workers 3

Each worker tells the seconds from the fault to its own error; shown are the median and the longest of all rounds. The
promise is the heartbeat time, ``job.lost_after_s`` (5 s).
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

FAULTS = ("killed", "another call", "returned", "raised")
TRANSPORTS = {
    "shm": ("job.comm=shm",),
    "tcp, Unix sockets": ("job.comm=tcp",),
    "tcp, CURVE": ("job.comm=tcp", "comm.tcp.same_host=tcp"),
}


def main(env: Any) -> None:
    """The program of the jobs: worker 1 makes the fault while the others wait for it."""
    import numpy

    from twister2_net import allreduce

    fault, folder = env.args[0], Path(env.args[1])
    allreduce(env, numpy.ones(4))
    if env.worker_id == 1:
        time.sleep(0.3)
        (folder / "new").write_text(str(time.monotonic()))
        (folder / "new").rename(folder / "began")
        if fault == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "another call":
            allreduce(env, numpy.ones(5))
        if fault == "raised":
            raise ValueError(fault)
        return
    try:
        allreduce(env, numpy.ones(4))
    except Exception:
        (folder / f"worker-{env.worker_id}").write_text(str(time.monotonic() - float((folder / "began").read_text())))
        raise


def seconds(fault: str, options: tuple[str, ...], workers: int) -> list[float]:
    """What the other workers told of one job."""
    with tempfile.TemporaryDirectory() as folder:
        words = [word for option in ("job.attempts=1", *options) for word in ("-o", option)]
        subprocess.run(
            [sys.executable, "-m", "twister2.cli.main", "submit", "standalone", "--quiet", "-n", str(workers), *words,
             __file__, fault, folder],
            check=False, capture_output=True, timeout=120,
        )  # fmt: skip
        told = [float(path.read_text()) for path in Path(folder).glob("worker-*")]
    if len(told) != workers - 1:
        raise SystemExit(f"{fault}: {len(told)} of {workers - 1} workers told how long they waited")
    return told


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=3)
    given = parser.parse_args()
    print("| transport | fault | median, s | longest, s |\n| --- | --- | --- | --- |")
    for transport, options in TRANSPORTS.items():
        for fault in FAULTS:
            told = [one for _ in range(given.rounds) for one in seconds(fault, options, given.workers)]
            print(f"| {transport} | {fault} | {statistics.median(told):.2f} | {max(told):.2f} |", flush=True)
