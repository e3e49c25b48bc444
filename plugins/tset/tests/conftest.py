"""Workers in one process for the tests of sets: the kit's cluster, with graphs."""

from __future__ import annotations

import pytest

from twister2_testkit.graphs import run_workers


@pytest.fixture(name="run_workers")
def run_workers_fixture():
    """``run_workers(n, function, executor=...)``: the results of ``function(env)`` by worker id."""
    return run_workers
