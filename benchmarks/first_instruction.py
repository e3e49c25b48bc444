"""The program of the workload `managers`: when its first instruction runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twister2.spec.environment import WorkerEnvironment


def main(env: WorkerEnvironment) -> None:
    print("FIRST", time.time(), flush=True)
