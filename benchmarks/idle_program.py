"""A job whose workers do nothing, for idle_memory.py. Argument: seconds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twister2.spec.environment import WorkerEnvironment


def main(env: WorkerEnvironment) -> None:
    env.barrier()
    time.sleep(float(env.args[0]))
