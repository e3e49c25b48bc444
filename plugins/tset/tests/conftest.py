"""Workers in one process for the tests of sets: the kit's cluster, with graphs."""

from __future__ import annotations

import pytest

from twister2_testkit.graphs import EXECUTORS, run_workers
from twister2_tset import TSetContext


@pytest.fixture(name="run_workers")
def run_workers_fixture():
    """``run_workers(n, function, executor=...)``: the results of ``function(env)`` by worker id."""
    return run_workers


@pytest.fixture(params=EXECUTORS)
def everywhere(request):
    """Runs a function of a context on ``n`` workers; its value, which is the same on every worker."""

    def run(n, function, **options):
        results = run_workers(n, lambda env: function(TSetContext(env)), executor=request.param, **options)
        assert all(result == results[0] for result in results)
        return results[0]

    return run
