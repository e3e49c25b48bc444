"""Polars on Parquet, a thread per worker: scan, sort by the key columns, sink_parquet to one file."""

# benchmark: venv=main packages=polars
from __future__ import annotations

import os

from harness.contest import Contest
from harness.tables import files

contest = Contest()
os.environ["POLARS_MAX_THREADS"] = str(contest.workers)
import polars  # noqa: E402 - it looks at the variable when it is imported


def job() -> dict[str, str]:
    target = os.path.join(contest.output, "sorted.parquet")
    ordered = polars.scan_parquet(files(contest, "records")).sort("prefix", "suffix")
    ordered.sink_parquet(target, compression="uncompressed", statistics=False)
    return {"folder": contest.output}


contest.report(contest.run(job))
