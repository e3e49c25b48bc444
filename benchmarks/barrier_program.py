"""The program of the workload `many_workers`: a barrier of all, and then the end, or with arguments a wait."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twister2.spec.environment import WorkerEnvironment


def main(env: WorkerEnvironment) -> None:
    env.barrier("all")
    if env.worker_id == 0:
        print("met", env.n_workers, flush=True)
    if env.args:
        met, go = env.args
        if env.worker_id == 0:
            Path(met).touch()
        while not os.path.exists(go):
            time.sleep(1.0)
