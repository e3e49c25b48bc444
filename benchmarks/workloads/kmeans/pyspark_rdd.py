"""PySpark RDD: a cached partition per part, centroids broadcast, one job of the kernel per iteration."""

# benchmark: venv=spark packages=pyspark,numpy
from __future__ import annotations

import numpy as np
from harness.contest import Contest
from harness.kmeans import iterations, moved, part_of_points, step
from harness.spark import session

contest = Contest()
spark = session(contest.workers)
path, parts = contest.input("points", ".npy"), contest.workers


def job() -> list[list[float]]:
    context = spark.sparkContext
    cached = context.parallelize(range(parts), parts).map(lambda part: part_of_points(path, part, parts)).cache()
    centroids = np.load(contest.input("centroids", ".npy"))
    for _ in range(iterations(contest.size)):
        shared = context.broadcast(centroids)
        sums = cached.map(lambda points, shared=shared: step(points, shared.value)).collect()
        centroids = moved(centroids, sum(sums))
        shared.unpersist()
    return centroids.tolist()


contest.report(contest.run(job))
spark.stop()
