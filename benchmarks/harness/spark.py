"""The Spark session of the PySpark contestants (imports PySpark, so for those only)."""

from __future__ import annotations

from pyspark.sql import SparkSession


def session(workers: int) -> SparkSession:
    """A session on this machine with as many threads as workers, without the web interface and progress lines."""
    spark: SparkSession = (
        SparkSession.builder.master(f"local[{workers}]")
        .config("spark.driver.memory", "6g")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    return spark
