from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from twister2_testkit.jobs import Jobs
from twister2_testkit.seeds import drawn_seed


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    """Whole jobs; when the test is over nothing of them may be left but records and logs."""
    with Jobs(tmp_path) as jobs:
        yield jobs


@pytest.fixture
def seed() -> int:
    """Decides when things happen."""
    return drawn_seed()
