"""PySpark DataFrame on Parquet: groupBy and sum, and its figures; all of it in the JVM."""

# benchmark: venv=spark packages=pyspark
from __future__ import annotations

from harness.contest import Contest
from harness.spark import session
from harness.tables import GROUP_ANSWER, files, named
from pyspark.sql import functions as F

contest = Contest()
spark = session(contest.workers)
spark.conf.set("spark.sql.shuffle.partitions", str(2 * contest.workers))


def job() -> dict[str, float]:
    sums = spark.read.parquet(*files(contest, "rows")).groupBy("k").agg(F.sum("v").alias("s"))
    (figures,) = sums.agg(F.count("*"), F.sum("s"), F.sum(F.col("k") * F.col("s")), F.max("s")).collect()
    return named(GROUP_ANSWER, figures)


contest.report(contest.run(job))
spark.stop()
