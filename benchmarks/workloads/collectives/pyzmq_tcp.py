"""By hand on bare pyzmq sockets over TCP: to all below 64 KiB, a ring above."""

# benchmark: venv=twister2 packages=pyzmq,numpy
from __future__ import annotations

from harness.zmq_ring import main

main("tcp")
