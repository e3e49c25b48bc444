"""PySpark RDD, the textbook form: textFile, flatMap(str.split), map, reduceByKey(add) in Python workers."""

# benchmark: venv=spark packages=pyspark
from __future__ import annotations

from operator import add

from harness.contest import Contest
from harness.spark import session
from harness.wordcount import TOP

contest = Contest()
spark = session(contest.workers)


def job() -> dict[str, object]:
    lines = spark.sparkContext.textFile(contest.input("words", ".txt"), 4 * contest.workers)
    counts = lines.flatMap(str.split).map(lambda word: (word, 1)).reduceByKey(add, 2 * contest.workers).cache()
    top = counts.takeOrdered(TOP, key=lambda pair: (-pair[1], pair[0]))
    return {"top": [list(pair) for pair in top], "distinct": counts.count(), "total": counts.values().sum()}


contest.report(contest.run(job))
spark.stop()
