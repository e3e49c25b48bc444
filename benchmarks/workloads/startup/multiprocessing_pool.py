"""concurrent.futures: a pool of processes, one number from each of two calls."""

# benchmark: venv=main
from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor

from harness.contest import Contest

if __name__ == "__main__":
    contest = Contest()
    with ProcessPoolExecutor(contest.workers) as pool:
        contest.report(contest.run(lambda: sum(pool.map(abs, [20, 22]))))
