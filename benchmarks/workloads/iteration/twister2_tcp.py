"""Twister2 over comm_tcp: a call of allreduce, a run of a prepared graph, an evaluation of a set; loops of them."""

# benchmark: venv=twister2 launch=submit options=job.comm=tcp
# benchmark: packages=twister2-core,twister2-net,twister2-tset,twister2-comm-tcp,numpy
from __future__ import annotations

from harness.iterations import main as main
