"""PySpark DataFrame: read.text, explode(split), groupBy count; all of it in the JVM."""

# benchmark: venv=spark packages=pyspark
from __future__ import annotations

from harness.contest import Contest
from harness.spark import session
from harness.wordcount import TOP
from pyspark.sql import functions as F

contest = Contest()
spark = session(contest.workers)
spark.conf.set("spark.sql.shuffle.partitions", str(2 * contest.workers))


def job() -> dict[str, object]:
    lines = spark.read.text(contest.input("words", ".txt"))
    words = lines.select(F.explode(F.split("value", " ")).alias("word")).where("word != ''")
    counts = words.groupBy("word").agg(F.count("*").alias("n")).cache()
    top = counts.orderBy(F.desc("n"), "word").limit(TOP).collect()
    distinct, total = counts.agg(F.count("*"), F.sum("n")).collect()[0]
    return {"top": [[row.word, row.n] for row in top], "distinct": distinct, "total": total}


contest.report(contest.run(job))
spark.stop()
