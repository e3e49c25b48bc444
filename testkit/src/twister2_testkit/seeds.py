"""What decides in tests that draw."""

from __future__ import annotations

import os
import random

VARIABLE = "TWISTER2_SEED"


def drawn_seed() -> int:
    """The seed of an earlier run (``TWISTER2_SEED``), else one that is drawn. Printed, so that a failure shows it."""
    seed = int(os.environ.get(VARIABLE, "0")) or random.SystemRandom().randrange(1, 1 << 30)
    print(f"{VARIABLE}={seed}")
    return seed
