"""Polars on Parquet, a thread per worker: group_by and sum, collected by the streaming engine, and its figures."""

# benchmark: venv=main packages=polars
from __future__ import annotations

import os

from harness.contest import Contest
from harness.tables import GROUP_ANSWER, files, named

contest = Contest()
os.environ["POLARS_MAX_THREADS"] = str(contest.workers)
import polars  # noqa: E402 - it looks at the variable when it is imported


def job() -> dict[str, float]:
    rows = polars.scan_parquet(files(contest, "rows"))
    sums = rows.group_by("k").agg(polars.col("v").sum()).collect(engine="streaming")
    k, v = polars.col("k"), polars.col("v")
    figures = [polars.len().alias("n"), v.sum().alias("sum"), (k * v).sum().alias("weighted"), v.max().alias("largest")]
    return named(GROUP_ANSWER, sums.select(figures).row(0))


contest.report(contest.run(job))
