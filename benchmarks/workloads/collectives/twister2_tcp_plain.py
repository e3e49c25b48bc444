"""Twister2, Harp over comm_tcp through TCP without encryption."""

# benchmark: venv=twister2 launch=submit options=job.comm=tcp;comm.tcp.same_host=tcp;comm.tcp.plain=true
# benchmark: packages=twister2-harp,twister2-comm-tcp,numpy,pyzmq
from __future__ import annotations

from harness.twister2_collectives import main as main
