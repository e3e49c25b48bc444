from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from twister2_testkit.jobs import Jobs


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    """Whole jobs; when the test is over nothing of them may be left but records and logs."""
    with Jobs(tmp_path) as jobs:
        yield jobs


TRANSPORTS = {
    "shm": ("job.comm=shm",),
    "tcp": ("job.comm=tcp",),  # Unix sockets, as the workers are on one host
    "curve": ("job.comm=tcp", "comm.tcp.same_host=tcp"),  # encrypted, as between hosts
    "mpi": ("job.comm=mpi",),
    "inproc": ("rm.standalone.workers_as=threads", "job.comm=inproc"),
}


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.needs_mpi] * (name == "mpi")) for name in TRANSPORTS])
def transport(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Options of a job, once over each transport."""
    return tuple(word for setting in TRANSPORTS[request.param] for word in ("-o", setting))
