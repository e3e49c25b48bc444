from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from twister2_testkit.jobs import Jobs


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    """Whole jobs; when the test is over nothing of them may be left but records and logs."""
    with Jobs(tmp_path, left_s=25.0) as jobs:
        yield jobs


@pytest.fixture
def seed() -> int:
    """Decides when things happen: TWISTER2_SEED, or drawn. Printed, so that a failure shows it."""
    chosen = int(os.environ.get("TWISTER2_SEED", 0)) or random.SystemRandom().randrange(1, 1 << 30)
    print(f"TWISTER2_SEED={chosen}")
    return chosen
