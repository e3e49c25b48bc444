"""Options of the plugin."""

from __future__ import annotations

from typing import Literal

import attrs
from attrs.validators import ge, gt

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
    hosts: tuple[str, ...] = option(
        (),
        "Hosts that run the workers, reached by ssh: names as ssh knows them, each with the number of workers that it "
        "takes at the most, as in ['h1', 'me@h2:4']. None: this machine.",
    )
    hosts_file: str = option("", "File with further hosts, one per line: 'h1', 'h1:4' or 'h1 slots=4'.")
    ssh: tuple[str, ...] = option(
        ("ssh",), "The ssh command, with further options of it, as in ['ssh', '-F', 'cluster.conf']."
    )
    python: str = option(
        "", "Python interpreter on the hosts, with twister2 installed; the path of this one when empty."
    )
    prologue: tuple[str, ...] = option(
        (), "Lines for the shell of a host that it runs before Python, as in ['module load python']."
    )
    host_folder: str = option(
        "", "Folder on the hosts for files of running jobs; twister2 in the user's state folder there when empty."
    )
    shared_files: tuple[Literal["package", "state", "output"], ...] = option(
        (),
        "What hosts and client see as the same files under the same paths, on a network file system, say: 'state' for "
        "checkpoints of jobs that survive their hosts, 'output' for what programs write, 'package'.",
    )
    connect_s: float = option(10.0, "How long a host may take to answer ssh.", unit="s", validator=gt(0))
    limits: tuple[Literal["cpus", "memory"], ...] = option(
        (),
        "What control groups hold workers to: 'cpus' to job.cpus, 'memory' to job.memory_mb (the kernel ends the "
        "process of a worker that takes more). The user must be allowed to make control groups.",
    )
    bind: Literal["none", "cpus", "numa"] = option(
        "none",
        "CPUs that workers are bound to: 'cpus': as many of its own as a worker asks for (job.cpus), 'numa': those of "
        "one NUMA node.",
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
