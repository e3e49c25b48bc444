"""Dask DataFrame on Parquet, a process per worker: groupby and sum, and its figures."""

# benchmark: venv=dask packages=dask,distributed,pandas,pyarrow
from __future__ import annotations

import dask
import dask.dataframe
from harness.contest import Contest
from harness.dask_cluster import processes
from harness.tables import GROUP_ANSWER, files, named


def main() -> None:
    contest = Contest()

    def job() -> dict[str, float]:
        sums = dask.dataframe.read_parquet(files(contest, "rows")).groupby("k").v.sum().reset_index()
        figures = dask.compute(sums.shape[0], sums.v.sum(), (sums.k * sums.v).sum(), sums.v.max())
        return named(GROUP_ANSWER, figures)

    with processes(contest):
        contest.report(contest.run(job))


if __name__ == "__main__":
    main()
