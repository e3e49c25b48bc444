"""Twister2, Harp over comm_shm on arrays that were born in shared memory (env.empty_shared)."""

# benchmark: venv=twister2 launch=submit options=job.comm=shm
# benchmark: packages=twister2-harp,twister2-comm-shm,numpy
from __future__ import annotations

from typing import TYPE_CHECKING

from harness.twister2_collectives import run

if TYPE_CHECKING:
    from twister2.spec.environment import WorkerEnvironment


def main(env: WorkerEnvironment) -> None:
    run(env, shared=True)
