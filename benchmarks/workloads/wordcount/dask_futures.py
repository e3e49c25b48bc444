"""Dask futures on processes: Counter over bytes.split() per part, merged on a worker."""

# benchmark: venv=dask packages=dask,distributed
from __future__ import annotations

from dask.distributed import Client, LocalCluster
from harness.contest import Contest
from harness.wordcount import byte_ranges, count_range, merged


def main() -> None:
    contest = Contest()
    path = contest.input("words", ".txt")
    with (
        LocalCluster(n_workers=contest.workers, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):

        def job() -> dict[str, object]:
            parts = [client.submit(count_range, path, *part) for part in byte_ranges(path, 2 * contest.workers)]
            answer: dict[str, object] = client.submit(merged, parts).result()
            return answer

        contest.report(contest.run(job))


if __name__ == "__main__":
    main()
