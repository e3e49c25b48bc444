"""Dask bag on processes: read_text, str.split, flatten, frequencies, topk."""

# benchmark: venv=dask packages=dask,distributed
from __future__ import annotations

import dask
import dask.bag
from dask.distributed import Client, LocalCluster
from harness.contest import Contest
from harness.wordcount import TOP


def main() -> None:
    contest = Contest()
    with (
        LocalCluster(n_workers=contest.workers, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
    ):

        def job() -> dict[str, object]:
            lines = dask.bag.read_text(contest.input("words", ".txt"), blocksize=32 << 20)
            counts = lines.map(str.split).flatten().frequencies()
            top, distinct, total = dask.compute(
                counts.topk(2 * TOP, key=lambda pair: pair[1]), counts.count(), counts.pluck(1).sum()
            )
            top = sorted((list(pair) for pair in top), key=lambda pair: (-pair[1], pair[0]))
            return {"top": top[:TOP], "distinct": int(distinct), "total": int(total)}

        contest.report(contest.run(job))


if __name__ == "__main__":
    main()
