"""Twister2, operators over comm_tcp: a part of the points on each worker, one allreduce per iteration."""

# benchmark: venv=twister2 launch=submit options=job.comm=tcp packages=twister2-core,twister2-comm-tcp,numpy
from __future__ import annotations

from harness.twister2_kmeans import main as main
