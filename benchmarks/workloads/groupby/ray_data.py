"""Ray Data on Parquet: groupby and sum, a table of them in pandas, and its figures."""

# benchmark: venv=ray packages=ray,pandas,pyarrow
from __future__ import annotations

import ray.data
from harness.contest import Contest
from harness.ray_session import table_session
from harness.tables import GROUP_ANSWER, files, named


def main() -> None:
    contest = Contest()

    def job() -> dict[str, float]:
        rows = ray.data.read_parquet(files(contest, "rows"))
        table = rows.groupby("k", num_partitions=2 * contest.workers).sum("v").to_pandas()
        k, sums = table["k"], table["sum(v)"]
        return named(GROUP_ANSWER, [len(table), sums.sum(), (k * sums).sum(), sums.max()])

    with table_session(contest):
        contest.report(contest.run(job))


if __name__ == "__main__":
    main()
