"""PySpark DataFrame on Parquet: sort by the key columns, write.parquet; all of it in the JVM."""

# benchmark: venv=spark packages=pyspark
from __future__ import annotations

import os

from harness.contest import Contest
from harness.spark import session
from harness.tables import files

contest = Contest()
spark = session(contest.workers)
target = os.path.join(contest.output, "sorted")


def job() -> dict[str, str]:
    records = spark.read.parquet(*files(contest, "records"))
    records.sort("prefix", "suffix").write.parquet(target, compression="uncompressed")
    return {"folder": target}


contest.report(contest.run(job))
spark.stop()
