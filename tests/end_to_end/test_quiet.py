"""What ``submit`` has to say itself, with ``--quiet`` and without."""

from __future__ import annotations

import os

from twister2_testkit.jobs import Jobs

SAYS = "def main(env):\n    print('worker', env.worker_id)\n"


def test_quiet_leaves_nothing_but_what_workers_write(jobs: Jobs) -> None:
    program = jobs.program(SAYS, "says.py")
    workers = len(os.sched_getaffinity(0)) + 1  # they take turns: a warning
    loud = jobs.start("submit", "standalone", "-n", str(workers), program).finish()
    quiet = jobs.start("submit", "standalone", "-q", "-n", str(workers), program).finish()
    expected = [f"worker {number}" for number in range(workers)]
    assert loud.code == quiet.code == 0
    assert sorted(loud.out.splitlines()) == sorted(quiet.out.splitlines()) == sorted(expected)
    assert "take turns" in loud.err
    assert [line for line in loud.err.splitlines() if "COMPLETED" in line]
    assert quiet.err == ""


def test_a_failure_is_told_in_any_case(jobs: Jobs) -> None:
    program = jobs.program("def main(env):\n    raise ValueError('as asked')\n", "fails.py")
    done = jobs.start("submit", "standalone", "-q", "-n", "1", program).finish()
    assert done.code != 0
    assert "as asked" in done.err


READS = """
from twister2_tset import TSetContext

def main(env):
    context = TSetContext(env)
    lines = context.read_text("lines.txt").cache()
    assert lines.count() == lines.map(len).count() == 777
    report = context.read_report()
    assert (report.records, report.n_bytes) == (777, 777 * 9), report
"""


def test_the_last_line_counts_what_the_program_counts(jobs: Jobs) -> None:
    (jobs.folder / "lines.txt").write_text("12345678\n" * 777)
    done = jobs.start("submit", "standalone", "-n", "2", jobs.program(READS, "reads.py")).finish()
    assert done.code == 0, done
    assert done.err.splitlines()[-1].endswith("777 records (6.99kB) read")
