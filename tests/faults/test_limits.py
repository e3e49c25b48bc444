"""Limits of the shell that submits (ulimit): named, with what is needed, and never the program's fault."""

from __future__ import annotations

import subprocess
import sys

import pytest

from twister2.worker.descriptors import BASE, PER_PEER
from twister2_testkit.jobs import Done, Jobs

pytestmark = pytest.mark.faults

TALKS = """
    from twister2_net import allreduce

    def main(env):
        for _ in range(3):
            allreduce(env, 1)
        print("ok")

    def opens(env):
        mine = [open("/dev/null") for _ in range(100_000)]

    def writes(env):
        for number in range(3000):
            print(number, "x" * 80)
"""


ENOUGH = {"shm,tcp": BASE + 3 * PER_PEER, "tcp": 200}
"""Descriptors with which 4 workers talk to each other."""


def limited(jobs: Jobs, limit: str, *words: object) -> Done:
    command = ["sh", "-c", f'ulimit {limit}; exec "$@"', "sh", sys.executable, "-m", "twister2.cli.main"]
    done = subprocess.run(
        [*command, *map(str, words)], env=jobs.environment, cwd=jobs.folder, capture_output=True, text=True, timeout=90,
        check=False,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr, 0.0)


@pytest.mark.parametrize("comm", ["shm,tcp", "tcp"])
@pytest.mark.parametrize("files", [12, 20, 24, 28, 32, 36, 40, 44, 48, 200])
def test_open_files(jobs: Jobs, files: int, comm: str) -> None:
    """Enough of them, or an error that says what is too few."""
    options = ("-q", "-n", "4", "-o", f"job.comm={comm}")
    done = limited(jobs, f"-n {files}", "submit", "standalone", *options, jobs.program(TALKS))
    if files >= ENOUGH[comm] or (done.code == 0 and files > 20):
        assert (done.code, done.out) == (0, "ok\n" * 4), done
        return
    assert done.code in (1, 4), done
    assert "ulimit -n" in done.err
    assert f"may have {files} files open" in done.err
    for word in ("the program", "Traceback", "SIGABRT", "report it"):
        assert word not in done.err.replace("those of its program", ""), done


def test_a_soft_limit_on_open_files_is_raised(jobs: Jobs) -> None:
    """Each transport, and all of them at once."""
    for more in ((), ("-o", "job.comm=tcp")):
        done = limited(jobs, "-Sn 40", "submit", "standalone", "-q", *more, "-n", "4", jobs.program(TALKS))
        assert (done.code, done.out) == (0, "ok\n" * 4), done


def test_open_files_of_the_program_itself(jobs: Jobs) -> None:
    done = limited(jobs, "-n 200", "submit", "standalone", "-q", "-n", "1", f"{jobs.program(TALKS)}:opens")
    assert done.code == 1, done
    assert "the program raised it while running" in done.err
    assert "ulimit -n" in done.err
    assert "Traceback" in done.err


@pytest.mark.parametrize("quiet", [True, False])
def test_sizes_of_files(jobs: Jobs, quiet: bool) -> None:
    """What the logs do not take is said once, with the reason, and the output is there all the same."""
    program = f"{jobs.program(TALKS)}:writes"
    done = limited(jobs, "-f 100", "submit", "standalone", *(["-q"] if quiet else []), "-n", "2", program)
    assert done.code == 0, done
    assert len(done.out.splitlines()) == 6000
    assert done.err.count("are not complete") == 1, done
    assert "ulimit -f" in done.err
    for command in ("wait", "status", "logs"):
        later = jobs.cli(command, "last")
        assert later.code == 0, later
        assert later.err.count("are not complete") == 1, later


COUNTS = """
    import os
    import numpy as np
    from twister2_net import allreduce, gather

    def main(env):
        for root in range(env.n_workers):
            gather(env, np.ones(1 << 16), root=root)
        allreduce(env, np.ones(1 << 16))
        print(len(os.listdir("/proc/self/fd")), flush=True)
        env.barrier()
"""


def descriptors_of(jobs: Jobs, workers: int) -> int:
    """How many files a worker has open that has talked to all others; the most of any."""
    done = jobs.submit(jobs.program(COUNTS), "-q", workers=workers)
    assert done.code == 0, done
    return max(map(int, done.out.split()))


def test_what_a_worker_has_open(jobs: Jobs) -> None:
    """A transport that is not used for a peer takes nothing for it: more of them cost no more descriptors."""
    few, many = descriptors_of(jobs, 2), descriptors_of(jobs, 5)
    per_peer = (many - few) / 3
    assert per_peer <= PER_PEER, (few, many)
    assert few <= BASE + PER_PEER


def test_nine_workers_in_what_they_need_themselves(jobs: Jobs) -> None:
    """The limit cannot be raised, and holds from the first connection to the last message."""
    done = limited(jobs, f"-n {BASE + PER_PEER * 8}", "submit", "standalone", "-q", "-n", "9", jobs.program(TALKS))
    assert (done.code, done.out) == (0, "ok\n" * 9), done
