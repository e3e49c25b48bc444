"""comm_tcp over TCP with CURVE and a bare pyzmq PAIR socket with CURVE, in turns."""

# benchmark: venv=twister2 packages=twister2-comm-tcp,pyzmq
from __future__ import annotations

from harness.streams import main

if __name__ == "__main__":
    main("curve")
