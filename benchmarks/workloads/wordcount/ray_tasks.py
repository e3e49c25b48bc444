"""Ray tasks: Counter over bytes.split() per part, merged in a task."""

# benchmark: venv=ray packages=ray
from __future__ import annotations

from collections import Counter

import ray
from harness.contest import Contest
from harness.wordcount import byte_ranges, count_range, merged


@ray.remote
def count(path: str, begin: int, end: int) -> Counter[bytes]:
    return count_range(path, begin, end)


@ray.remote
def together(*parts: Counter[bytes]) -> dict[str, object]:
    return merged([Counter(parts[0]), *parts[1:]])


def main() -> None:
    contest = Contest()
    path = contest.input("words", ".txt")
    ray.init(num_cpus=contest.workers, include_dashboard=False, log_to_driver=False, logging_level="error")

    def job() -> dict[str, object]:
        parts = [count.remote(path, *part) for part in byte_ranges(path, 2 * contest.workers)]
        answer: dict[str, object] = ray.get(together.remote(*parts))
        return answer

    contest.report(contest.run(job))
    ray.shutdown()


if __name__ == "__main__":
    main()
