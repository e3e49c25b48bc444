"""Ray: actors that keep their part of the points, a call of each and one get per iteration."""

# benchmark: venv=ray packages=ray,numpy
from __future__ import annotations

import numpy as np
import ray
from harness.contest import Contest
from harness.kmeans import Floats, iterations, moved, part_of_points, step
from harness.ray_session import session


@ray.remote(num_cpus=1)
class Part:
    def load(self, path: str, part: int, parts: int) -> None:
        self._points = part_of_points(path, part, parts)

    def step(self, centroids: Floats) -> Floats:
        return step(self._points, centroids)


def main() -> None:
    contest = Contest()
    with session(contest):
        actors = [Part.remote() for _ in range(contest.workers)]
        ray.get([actor.__ray_ready__.remote() for actor in actors])

        def job() -> list[list[float]]:
            for part, actor in enumerate(actors):
                actor.load.remote(contest.input("points", ".npy"), part, len(actors))
            centroids = np.load(contest.input("centroids", ".npy"))
            for _ in range(iterations(contest.size)):
                centroids = moved(centroids, sum(ray.get([actor.step.remote(centroids) for actor in actors])))
            return centroids.tolist()

        contest.report(contest.run(job))


if __name__ == "__main__":
    main()
