"""DuckDB on Parquet, a thread per worker: JOIN and sums in one query."""

# benchmark: venv=main packages=duckdb
from __future__ import annotations

import duckdb
from harness.contest import Contest
from harness.tables import JOIN_ANSWER, files, named

contest = Contest()
database = duckdb.connect(config={"threads": contest.workers})
QUERY = "SELECT count(*), sum(a), sum(b), sum(a * b) FROM read_parquet(?) JOIN read_parquet(?) USING (k)"


def job() -> dict[str, float]:
    found = database.execute(QUERY, [files(contest, "left"), files(contest, "right")]).fetchone()
    return named(JOIN_ANSWER, found)


contest.report(contest.run(job))
