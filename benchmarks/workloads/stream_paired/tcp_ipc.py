"""comm_tcp over Unix sockets and a bare pyzmq PAIR socket, in turns."""

# benchmark: venv=twister2 packages=twister2-comm-tcp,pyzmq
from __future__ import annotations

from harness.streams import main

if __name__ == "__main__":
    main("ipc")
