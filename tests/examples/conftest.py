from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from twister2_testkit.jobs import Jobs

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

TRANSPORTS = {
    "shm": ("-o", "job.comm=shm"),
    "tcp": ("-o", "job.comm=tcp"),
    "inproc": ("-o", "rm.standalone.workers_as=threads", "-o", "job.comm=inproc"),
    "mpi": ("-o", "job.comm=mpi"),
}


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    with Jobs(tmp_path) as jobs:
        yield jobs


@pytest.fixture
def examples() -> Path:
    return EXAMPLES


@pytest.fixture(params=["shm", "tcp", "inproc", pytest.param("mpi", marks=pytest.mark.needs_mpi)])
def transport(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Options of ``twister2 submit`` that choose a transport."""
    return TRANSPORTS[request.param]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A folder of texts: skewed words, unicode, an empty file, one giant line, one file that is not UTF-8."""
    folder = tmp_path / "texts"
    folder.mkdir()
    numbers = random.Random(5)
    words = ["the", "of", "größe", "雪", "\U0001f600", *(f"w{n}" for n in range(500))]
    for name in ("a.txt", "b.txt"):
        lines = [" ".join(words[int(numbers.paretovariate(0.6)) % 505] for _ in range(9)) for _ in range(3000)]
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "empty.txt").write_text("")
    (folder / "giant.txt").write_text("x " * 400_000, encoding="utf-8")
    return folder
