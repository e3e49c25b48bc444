"""DuckDB on Parquet, a thread per worker: GROUP BY into a table, and its figures."""

# benchmark: venv=main packages=duckdb
from __future__ import annotations

import duckdb
from harness.contest import Contest
from harness.tables import GROUP_ANSWER, files, named

contest = Contest()
database = duckdb.connect(config={"threads": contest.workers})


def job() -> dict[str, float]:
    query = "CREATE TEMP TABLE sums AS SELECT k, sum(v) AS s FROM read_parquet(?) GROUP BY k"
    database.execute(query, [files(contest, "rows")])
    found = database.execute("SELECT count(*), sum(s), sum(k * s), max(s) FROM sums").fetchone()
    return named(GROUP_ANSWER, found)


contest.report(contest.run(job))
