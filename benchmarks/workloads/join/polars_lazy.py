"""Polars on Parquet, a thread per worker: scan, join and sums, collected by the streaming engine."""

# benchmark: venv=main packages=polars
from __future__ import annotations

import os

from harness.contest import Contest
from harness.tables import JOIN_ANSWER, files, named

contest = Contest()
os.environ["POLARS_MAX_THREADS"] = str(contest.workers)
import polars  # noqa: E402 - it looks at the variable when it is imported


def job() -> dict[str, float]:
    left, right = (polars.scan_parquet(files(contest, table)) for table in ("left", "right"))
    a, b = polars.col("a"), polars.col("b")
    figures = left.join(right, on="k").select(polars.len().alias("n"), a.sum(), b.sum(), (a * b).sum().alias("ab"))
    return named(JOIN_ANSWER, figures.collect(engine="streaming").row(0))


contest.report(contest.run(job))
