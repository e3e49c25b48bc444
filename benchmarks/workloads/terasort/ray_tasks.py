"""Ray tasks and numpy by hand: some split files by ranges that are known before, some sort one and write its file."""

# benchmark: venv=ray packages=ray,numpy
from __future__ import annotations

import os

import numpy as np
import ray
from harness.contest import Contest
from harness.ray_session import table_session
from harness.records import RECORD, Records, by_range, order
from harness.sizes import PARTS


@ray.remote(num_returns=PARTS)
def split(path: str) -> list[Records]:
    return by_range(np.fromfile(path, RECORD), PARTS)


@ray.remote
def sort(path: str, *parts: Records) -> None:
    records = np.concatenate(parts, dtype=RECORD)  # else in native byte order
    records.take(order(records)).tofile(path)


def main() -> None:
    contest = Contest()

    def job() -> dict[str, str]:
        ranges = zip(*(split.remote(contest.input("records", f"-{part}.bin")) for part in range(PARTS)), strict=True)
        ray.get(
            [sort.remote(os.path.join(contest.output, f"part-{one}.bin"), *parts) for one, parts in enumerate(ranges)]
        )
        return {"folder": contest.output}

    with table_session(contest):
        contest.report(contest.run(job))


if __name__ == "__main__":
    main()
