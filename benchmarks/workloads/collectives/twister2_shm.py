"""Twister2, Harp over comm_shm: shared memory."""

# benchmark: venv=twister2 launch=submit options=job.comm=shm
# benchmark: packages=twister2-harp,twister2-comm-shm,numpy
from __future__ import annotations

from harness.twister2_collectives import main as main
