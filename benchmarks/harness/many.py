"""Many workers and one job master: how long joining, a barrier and the end take, and what the master weighs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.process_tree import command_line, descendants

COUNTS = {"full": (16, 256), "small": (2, 8)}
PROGRAM = os.path.join(os.path.dirname(os.path.dirname(__file__)), "barrier_program.py")
LIMIT_S = 120
MORE = ("job.oversubscribe=true", "job.comm=tcp")


@contextmanager
def started(folder: Path, workers: int, *words: str) -> Iterator[subprocess.Popen[str]]:
    """``twister2 submit`` of the program, with its files in this folder."""
    twister2 = os.path.join(os.path.dirname(sys.executable), "twister2")
    settings = [word for option in (f"job.workers={workers}", *MORE) for word in ("-o", option)]
    process = subprocess.Popen(
        [twister2, "submit", "standalone", *settings, PROGRAM, *words],
        env={**os.environ, "TWISTER2__JOB__STATE_DIR": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=LIMIT_S)


def until(process: subprocess.Popen[str], found: Callable[[], object]) -> float:
    """The time at which ``found()`` is true.

    :raises RuntimeError: the job has ended before, or takes too long.
    """
    end = time.monotonic() + LIMIT_S
    while not found():
        if process.poll() is not None or time.monotonic() > end:
            process.terminate()
            raise RuntimeError(f"the job has ended, or hangs: {process.communicate()[0][-2000:]}")
        time.sleep(0.02)
    return time.time()


def copies(folder: Path) -> int:
    """Interpreters of workers that the manager has started."""
    text = "".join(path.read_text() for path in folder.glob("rm-standalone/*/journal"))
    return sum(line.startswith("start ") for line in text.splitlines())


def timed(workers: int) -> dict[str, float]:
    """Seconds of a job whose workers meet in a barrier and end."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        begin = time.time()
        with started(folder, workers) as process:
            run = until(process, lambda: copies(folder) >= workers)
            said, _ = process.communicate(timeout=LIMIT_S)
            end = time.time()
        (log,) = folder.glob("jobs/*/events.jsonl")
        events = [json.loads(line) for line in log.read_text().splitlines()]
    if process.returncode or f"met {workers}" not in said:
        raise RuntimeError(said[-2000:])
    times = {
        kind: [each["time"] for each in events if each["event"] == kind] for kind in ("worker_joined", "job_ended")
    }
    (all_joined,) = (each["time"] for each in events if each["event"] == "attempt_started")
    return {
        "from the shell until all interpreters run, s": run - begin,
        "from there until all have joined, s": max(0.0, all_joined - run),
        "from there through a barrier until all have returned, s": times["job_ended"][0] - max(all_joined, run),
        "from there back to the shell, s": end - times["job_ended"][0],
        "joining, a barrier and the end, s": end - run,
    }


def memory_of(pid: int) -> tuple[int, int]:
    """KiB that a process has resident now, and had at the most."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    values = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith(("VmRSS", "VmHWM"))}
    return int(values["VmRSS"]), int(values["VmHWM"])


def weighed(workers: int) -> tuple[int, int]:
    """KiB of the master whose workers have met in a barrier and wait: now, and at the most."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        met, go = folder / "met", folder / "go"
        with started(folder, workers, str(met), str(go)) as process:
            until(process, met.exists)
            time.sleep(3.0)
            (master,) = (pid for pid in descendants(process.pid) if command_line(pid) == command_line(process.pid))
            weight = memory_of(master)
            go.touch()
            process.communicate(timeout=LIMIT_S)
    return weight


def job(few: int, many: int) -> dict[str, object]:
    figures = {f"{many} workers: {case}": seconds for case, seconds in timed(many).items()}
    small, large = weighed(few), weighed(many)
    for case, before, after in zip(("at rest", "at the most"), small, large, strict=True):
        figures[f"the master's memory for each worker more, {case}, KiB"] = (after - before) / (many - few)
    return {"right": True, "figures": figures}
