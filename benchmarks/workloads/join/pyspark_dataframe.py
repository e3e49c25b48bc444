"""PySpark DataFrame on Parquet: join (by hash, which it is told to) and its figures; all of it in the JVM."""

# benchmark: venv=spark packages=pyspark
from __future__ import annotations

from harness.contest import Contest
from harness.spark import session
from harness.tables import JOIN_ANSWER, files, named
from pyspark.sql import functions as F

contest = Contest()
spark = session(contest.workers)
spark.conf.set("spark.sql.shuffle.partitions", str(2 * contest.workers))


def job() -> dict[str, float]:
    left, right = (spark.read.parquet(*files(contest, table)) for table in ("left", "right"))
    rows = left.join(right.hint("shuffle_hash"), "k")
    (figures,) = rows.agg(F.count("*"), F.sum("a"), F.sum("b"), F.sum(F.col("a") * F.col("b"))).collect()
    return named(JOIN_ANSWER, figures)


contest.report(contest.run(job))
spark.stop()
