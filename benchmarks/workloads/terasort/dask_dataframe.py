"""Dask DataFrame on Parquet, a process per worker: sort_values by the key columns, to_parquet."""

# benchmark: venv=dask packages=dask,distributed,pandas,pyarrow
from __future__ import annotations

import os

import dask.dataframe
import pyarrow
from harness.contest import Contest
from harness.dask_cluster import processes
from harness.tables import files

SCHEMA = pyarrow.schema({"prefix": pyarrow.int64(), "suffix": pyarrow.int32(), "rest": pyarrow.binary()})


def main() -> None:
    contest = Contest()
    target = os.path.join(contest.output, "sorted")

    def job() -> dict[str, str]:
        ordered = dask.dataframe.read_parquet(files(contest, "records")).sort_values(["prefix", "suffix"])
        ordered.to_parquet(
            target, write_index=False, compression=None, schema=SCHEMA, name_function="part-{:04d}.parquet".format
        )
        return {"folder": target}

    with processes(contest):
        contest.report(contest.run(job))


if __name__ == "__main__":
    main()
