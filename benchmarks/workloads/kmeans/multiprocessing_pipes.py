"""multiprocessing: a part of the points in each process, centroids and sums through pipes to and from the parent."""

# benchmark: venv=main packages=numpy
from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection

import numpy as np
from harness.contest import Contest
from harness.kmeans import iterations, moved, part_of_points, step


def serve(pipe: Connection) -> None:
    points = part_of_points(*pipe.recv())
    while (centroids := pipe.recv()) is not None:
        pipe.send(step(points, centroids))


def main() -> None:
    contest = Contest()
    pairs = [multiprocessing.Pipe() for _ in range(contest.workers)]
    processes = [multiprocessing.Process(target=serve, args=(theirs,)) for _, theirs in pairs]
    pipes = [ours for ours, _ in pairs]
    for process in processes:
        process.start()

    def job() -> list[list[float]]:
        for part, pipe in enumerate(pipes):
            pipe.send((contest.input("points", ".npy"), part, len(pipes)))
        centroids = np.load(contest.input("centroids", ".npy"))
        for _ in range(iterations(contest.size)):
            for pipe in pipes:
                pipe.send(centroids)
            centroids = moved(centroids, sum(pipe.recv() for pipe in pipes))
        return centroids.tolist()

    contest.report(contest.run(job))
    for pipe, process in zip(pipes, processes, strict=True):
        pipe.send(None)
        process.join()


if __name__ == "__main__":
    main()
