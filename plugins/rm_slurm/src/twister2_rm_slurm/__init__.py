"""Resource manager plugin ``slurm``: one batch job holds the job master and all workers."""

from __future__ import annotations
