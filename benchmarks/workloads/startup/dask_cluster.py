"""Dask: LocalCluster of processes with one thread each, two futures."""

# benchmark: venv=dask packages=dask,distributed
from __future__ import annotations

from dask.distributed import Client, LocalCluster
from harness.contest import Contest


def main() -> None:
    contest = Contest()
    with (
        LocalCluster(n_workers=contest.workers, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        contest.report(contest.run(lambda: sum(client.gather(client.map(abs, [20, 22])))))


if __name__ == "__main__":
    main()
