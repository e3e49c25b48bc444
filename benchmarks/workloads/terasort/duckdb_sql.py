"""DuckDB on Parquet, a thread per worker: ORDER BY the key columns, COPY to one Parquet file."""

# benchmark: venv=main packages=duckdb
from __future__ import annotations

import os

import duckdb
from harness.contest import Contest
from harness.tables import files

contest = Contest()
database = duckdb.connect(
    config={"threads": contest.workers, "temp_directory": os.path.join(contest.output, "spilled")}
)


def job() -> dict[str, str]:
    names = ", ".join(f"'{name}'" for name in files(contest, "records"))
    target = os.path.join(contest.output, "sorted.parquet")
    database.execute(
        f"COPY (SELECT * FROM read_parquet([{names}]) ORDER BY prefix, suffix) "
        f"TO '{target}' (FORMAT parquet, COMPRESSION uncompressed)"
    )
    return {"folder": contest.output}


contest.report(contest.run(job))
