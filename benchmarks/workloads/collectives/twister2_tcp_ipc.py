"""Twister2, Harp over comm_tcp as it is by default on one host: Unix sockets."""

# benchmark: venv=twister2 launch=submit options=job.comm=tcp
# benchmark: packages=twister2-harp,twister2-comm-tcp,numpy,pyzmq
from __future__ import annotations

from harness.twister2_collectives import main as main
