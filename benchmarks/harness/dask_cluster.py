"""The Dask cluster of the contestants with tables (imports Dask, so for those only)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
from dask.distributed import Client, LocalCluster

from harness.contest import Contest


@contextmanager
def processes(contest: Contest) -> Iterator[None]:
    """A process of one thread per worker with its share of four fifths of the memory; they spill to the output."""
    share = psutil.virtual_memory().total * 4 // 5 // contest.workers
    with (
        LocalCluster(
            n_workers=contest.workers,
            threads_per_worker=1,
            memory_limit=share,
            dashboard_address=None,
            local_directory=os.path.join(contest.output, "dask"),
        ) as cluster,
        Client(cluster),
    ):
        yield
