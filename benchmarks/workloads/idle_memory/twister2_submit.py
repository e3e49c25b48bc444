"""Twister2: `twister2 submit` of a program whose workers sleep behind a barrier."""

# benchmark: venv=twister2 packages=twister2-core
from __future__ import annotations

import os
import sys

from harness import idle
from harness.contestants import ROOT

if __name__ == "__main__":
    twister2 = os.path.join(os.path.dirname(sys.executable), "twister2")
    program = str(ROOT / "idle_program.py")
    idle.main(lambda count: [twister2, "submit", "standalone", "-o", f"job.workers={count}", program, "60"])
