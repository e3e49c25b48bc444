"""Options of the plugin."""

from __future__ import annotations

from typing import Literal

import attrs
from attrs.validators import ge

from twister2.spec.options import option


@attrs.frozen(kw_only=True)
class StandaloneConfig:
    """Options of ``[rm.standalone]``."""

    workers_as: Literal["processes", "threads"] = option(
        "processes", "Workers are supervised processes, or threads of the calling process (for debugging, small jobs)."
    )
    mpiexec: str = option(
        "",
        "Command of an MPI library that starts its process worlds, for those that do not speak PMI-1, as Open MPI: "
        "mpiexec.openmpi.",
    )
    worker_min_mb: int = option(
        45, "Memory a worker is taken to need when the job gives no memory limit.", unit="MiB", validator=ge(1)
    )
    log_limit_kb: int = option(
        1024,
        "Size past which the file with a worker's start-up output is cut to its last quarter.",
        unit="KiB",
        validator=ge(16),
    )
