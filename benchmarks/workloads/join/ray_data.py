"""Ray Data on Parquet: join (a partition per worker), and its figures by block."""

# benchmark: venv=ray packages=ray,pandas,pyarrow
from __future__ import annotations

import numpy as np
import ray.data
from harness.contest import Contest
from harness.ray_session import table_session
from harness.tables import JOIN_ANSWER, Column, files, named


def figures(rows: dict[str, Column]) -> dict[str, Column]:
    a, b = rows["a"], rows["b"]
    return {name: np.array([value]) for name, value in zip(JOIN_ANSWER, [len(a), a.sum(), b.sum(), a @ b], strict=True)}


def main() -> None:
    contest = Contest()

    def job() -> dict[str, float]:
        left, right = (ray.data.read_parquet(files(contest, table)) for table in ("left", "right"))
        # Its aggregators would take a whole processor each, of which there are but as many as workers.
        light = {"num_cpus": 0.1}
        rows = left.join(right, "inner", contest.workers, on=("k",), aggregator_ray_remote_args=light)
        found = rows.map_batches(figures, batch_size=None).to_pandas()
        return named(JOIN_ANSWER, [found[name].sum() for name in JOIN_ANSWER])

    with table_session(contest):
        contest.report(contest.run(job))


if __name__ == "__main__":
    main()
