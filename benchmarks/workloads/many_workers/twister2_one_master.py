"""Twister2: workers of this machine, many more than it has cores, and one job master."""

# benchmark: venv=twister2 packages=twister2-core
from __future__ import annotations

from harness.contest import Contest
from harness.many import COUNTS, job

if __name__ == "__main__":
    contest = Contest()
    contest.report(contest.run(lambda: job(*COUNTS[contest.size])))
