"""comm_shm, and by hand: numpy copies into a warm segment; memory that both map and a byte in a pipe."""

# benchmark: venv=twister2 packages=twister2-comm-shm,numpy
from __future__ import annotations

from harness.streams import main

if __name__ == "__main__":
    main("shm")
