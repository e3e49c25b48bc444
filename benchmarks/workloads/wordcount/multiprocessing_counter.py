"""concurrent.futures: Counter over bytes.split() in one process per part, merged in the parent."""

# benchmark: venv=main
from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor

from harness.contest import Contest
from harness.wordcount import byte_ranges, count_range, merged

if __name__ == "__main__":
    contest = Contest()
    path = contest.input("words", ".txt")
    with ProcessPoolExecutor(contest.workers) as pool:

        def job() -> dict[str, object]:
            futures = [pool.submit(count_range, path, *part) for part in byte_ranges(path, contest.workers)]
            return merged([future.result() for future in futures])

        contest.report(contest.run(job))
