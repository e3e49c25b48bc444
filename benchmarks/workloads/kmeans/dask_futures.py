"""Dask futures on processes: the parts stay on the workers, one future per part and one gather per iteration."""

# benchmark: venv=dask packages=dask,distributed,numpy
from __future__ import annotations

import numpy as np
from dask.distributed import Client, LocalCluster
from harness.contest import Contest
from harness.kmeans import iterations, moved, part_of_points, step


def main() -> None:
    contest = Contest()
    path = contest.input("points", ".npy")
    with (
        LocalCluster(n_workers=contest.workers, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):

        def job() -> list[list[float]]:
            workers = list(client.scheduler_info()["workers"])
            parts = [
                client.submit(part_of_points, path, part, len(workers), workers=[worker])
                for part, worker in enumerate(workers)
            ]
            centroids = np.load(contest.input("centroids", ".npy"))
            for _ in range(iterations(contest.size)):
                steps = [client.submit(step, part, centroids, pure=False) for part in parts]
                centroids = moved(centroids, sum(client.gather(steps)))
            return centroids.tolist()

        contest.report(contest.run(job))


if __name__ == "__main__":
    main()
