"""The Ray session of the Ray contestants (imports Ray, so for those only)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import ray

from harness.contest import Contest

_TABLES_STORE_BYTES = 4 << 30
"""Of shared memory: tables and records of the size ``full``, with what the shuffles make of them."""


@contextmanager
def session(contest: Contest, **options: int) -> Iterator[None]:
    """A session on this machine with a processor per worker, quiet and without the web interface."""
    ray.init(num_cpus=contest.workers, include_dashboard=False, log_to_driver=False, logging_level="error", **options)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def table_session(contest: Contest) -> Iterator[None]:
    """One for Ray Data, with an object store that holds the tables, and without progress lines."""
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    with session(contest, object_store_memory=_TABLES_STORE_BYTES):
        yield
