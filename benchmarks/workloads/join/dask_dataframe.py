"""Dask DataFrame on Parquet, a process per worker: merge, and its figures."""

# benchmark: venv=dask packages=dask,distributed,pandas,pyarrow
from __future__ import annotations

import dask
import dask.dataframe
from harness.contest import Contest
from harness.dask_cluster import processes
from harness.tables import JOIN_ANSWER, files, named


def main() -> None:
    contest = Contest()

    def job() -> dict[str, float]:
        left, right = (dask.dataframe.read_parquet(files(contest, table)) for table in ("left", "right"))
        rows = left.merge(right, on="k")
        return named(JOIN_ANSWER, dask.compute(rows.shape[0], rows.a.sum(), rows.b.sum(), (rows.a * rows.b).sum()))

    with processes(contest):
        contest.report(contest.run(job))


if __name__ == "__main__":
    main()
