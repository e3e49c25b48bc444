"""PySpark: a session on local threads, one RDD of two numbers through Python workers."""

# benchmark: venv=spark packages=pyspark
from __future__ import annotations

from harness.contest import Contest
from harness.spark import session

contest = Contest()
spark = session(contest.workers)
contest.report(contest.run(lambda: spark.sparkContext.parallelize([20, 22], 2).map(abs).sum()))
spark.stop()
