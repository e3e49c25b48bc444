"""Programs that say more than anybody can take in: they wait, nothing is lost, and no process grows."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from twister2_testkit.jobs import Jobs

pytestmark = pytest.mark.timeout(240)

RECORDS = 20_000
PADDING = 2_000


def most_memory(pid: int) -> int:
    """The most that a process was resident with until now, in MiB; 0 when it has gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) >> 10 for line in text.splitlines() if line.startswith("VmHWM")), 0)


@pytest.mark.parametrize("mode", ["processes", "threads"])
def test_a_tight_loop_of_log_records_and_progress(jobs: Jobs, mode: str) -> None:
    program = jobs.program(
        f"""
        def main(env):
            for number in range({RECORDS}):
                env.log.info("record %05d %s", number, "x" * {PADDING})
                env.progress(1, 1)
            return "done"
        """
    )
    options = ["-o", f"rm.standalone.workers_as={mode}", *(["-o", "job.comm=inproc"] if mode == "threads" else [])]
    client = jobs.start("submit", "standalone", "-n", "2", *options, program)
    seen: dict[int, int] = {}
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            for pid in [*jobs.pids("master"), *jobs.pids("client"), *jobs.pids("supervisor")]:
                seen[pid] = max(seen.get(pid, 0), most_memory(pid))
            time.sleep(0.05)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        done = client.finish(200)
    finally:
        over.set()
        watcher.join(30)
    assert done.code == 0, done.err[-2000:]
    records = [line for line in done.err.splitlines() if " record " in line]
    assert len(records) == 2 * RECORDS
    for worker in range(2):
        mine = [line.split()[-2] for line in records if f"worker {worker}:" in line]
        assert mine == [f"{number:05d}" for number in range(RECORDS)]
    assert len(seen) >= (4 if mode == "processes" else 1)
    assert max(seen.values()) < 110, seen
