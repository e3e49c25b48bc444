"""Slurm, beside `srun hostname` of as many tasks."""

# benchmark: venv=twister2 packages=twister2-rm-slurm
from __future__ import annotations

from harness.managers import main, output, why_down

if __name__ == "__main__":
    main(
        "slurm",
        bare=lambda workers: output(["srun", "-n", str(workers), "hostname"]),
        down=lambda: why_down(["sinfo", "--noheader"]),
    )
