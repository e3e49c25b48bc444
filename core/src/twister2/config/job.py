"""The options of a job: the tables ``[job]``, ``[job.graph]``, ``[job.network]`` and ``[job.checkpoint]``."""

from __future__ import annotations

from typing import Literal

import attrs
from attrs.validators import and_, ge, gt, le

from twister2.config.groups import GroupConfig, fit_for_names
from twister2.spec.options import option
from twister2.spec.values import Value


@attrs.frozen(kw_only=True, eq=False, repr=False)
class NetworkConfig(Value):
    """Options of ``[job.network]``: what all transports share."""

    spin_us: int = option(
        50, "How long a waiting worker polls before it sleeps in the kernel.", unit="us", validator=[ge(0), le(100_000)]
    )
    window_messages: int = option(
        8, "Batches a channel may have under way before its sender is refused.", unit="1", validator=ge(1)
    )
    window_mb: int = option(
        16, "Megabytes a channel may have under way before its sender is refused.", unit="MiB", validator=ge(1)
    )
    form_deadline_s: float = option(
        60.0, "How long the workers may take to form the network of an attempt.", unit="s", validator=gt(0)
    )


@attrs.frozen(kw_only=True, eq=False, repr=False)
class CheckpointConfig(Value):
    """Options of ``[job.checkpoint]``."""

    keep: int = option(2, "Committed checkpoints that are kept; older ones are removed.", unit="1", validator=ge(1))


@attrs.frozen(kw_only=True, eq=False, repr=False)
class GraphConfig(Value):
    """Options of ``[job.graph]``: how task graphs are planned."""

    without_rules: tuple[str, ...] = option(
        (), "Rewriting rules that are applied to no graph of the job, e.g. fuse; explain() says which were."
    )
    broadcast_mb: float = option(
        8.0,
        "A side of a join that is known to be no larger than this may go to all tasks (rule broadcast_join).",
        unit="MiB",
        validator=ge(0),
    )


@attrs.frozen(kw_only=True, eq=False, repr=False)
class JobConfig(Value):
    """Options of ``[job]``."""

    name: str = option("", "Name of the job for people; the program's name when empty.")
    workers: int = option(2, "Number of workers.", unit="1", validator=ge(1))
    cpus: float = option(1.0, "CPUs of one worker's share.", unit="1", validator=gt(0))
    memory_mb: int = option(
        0, "Memory limit of one worker; 0: an equal share of what the node has free.", unit="MiB", validator=ge(0)
    )
    spill_dirs: tuple[str, ...] = option(
        (),
        "Folders, one per disk, for data that does not fit into a worker's memory, used in turn; they must exist on "
        "every node. ~ and $VARIABLES are expanded there. None: the worker's volatile folder.",
    )
    spill_compression: Literal["auto", "lz4", "zlib", "none"] = option(
        "auto", "Compression of spilled data; auto: lz4 where it is installed, else none."
    )
    disk_mb: int = option(0, "Scratch space of one worker; 0: what the manager gives.", unit="MiB", validator=ge(0))
    gpus: int = option(0, "GPUs of one worker.", unit="1", validator=ge(0))
    groups: dict[str, GroupConfig] = option(
        {},
        "Groups of workers that differ, by name, in the order of their worker ids, in place of job.workers.",
        validator=fit_for_names,
    )
    python: str = option(
        "",
        "Python interpreter of the workers, a path or a name on their search path; empty: what the resource manager "
        "has for them, else the one that submits, at the same path.",
    )
    threads: int = option(
        0, "Threads for functions marked as blocking; 0: as many as the worker has CPUs.", unit="1", validator=ge(0)
    )
    rm: str = option("standalone", "Resource manager plugin.")
    comm: tuple[str, ...] = option(
        ("shm", "tcp"), "Transport plugins in order of preference; each pair of workers uses the first that reaches."
    )
    sched: str = option("roundrobin", "Task scheduler plugin.")
    exec: str = option("threads", "Executor plugin.")
    state: str = option("file", "Plugin that stores checkpoints, what programs commit.")
    observe: tuple[str, ...] = option((), "Observer plugins.")
    ops: tuple[str, ...] = option(("net",), "Operator plugins that workers may use.")
    data: tuple[str, ...] = option(("file",), "Data plugins that workers may use.")
    requires: tuple[str, ...] = option(
        (), "Distributions with versions that must be installed, e.g. twister2-rm-slurm>=0.1."
    )
    master: Literal["auto", "client", "allocation"] = option(
        "auto", "Where the job master runs; auto: in the client where workers can reach it, else with the workers."
    )
    interface: str = option(
        "", "Network interface or address on which the job master listens for other hosts; all of them when empty."
    )
    state_dir: str = option("", "Folder for job records, logs and checkpoints; the user's state folder when empty.")
    walltime_s: int = option(0, "Longest time the job may run; 0: the manager's default.", unit="s", validator=ge(0))
    walltime_warn_s: float = option(
        60.0,
        "How long before its time is over programs are warned (an event of kind 'time'), and a job whose manager can "
        "begin it anew does so at its next commit.",
        unit="s",
        validator=ge(0),
    )
    oversubscribe: bool = option(False, "Start more workers than fit the free memory.")
    attempts: int = option(
        3,
        "Lives of the program: how often it may be started in all. A user's bug is never retried.",
        unit="1",
        validator=and_(ge(1), le(1000)),
    )
    heartbeat_s: float = option(1.0, "Time between two beats of a supervisor.", unit="s", validator=gt(0))
    lost_after_s: float = option(5.0, "A supervisor silent for so long is lost.", unit="s", validator=gt(0))
    manager_poll_s: float = option(
        15.0,
        "Time between two looks at what a resource manager on other hosts says of a job that runs; while it waits or "
        "starts, and when a worker is silent, it is asked every second.",
        unit="s",
        validator=gt(0),
    )
    queue_deadline_s: float = option(
        0.0, "How long the job may wait in the manager's queue; 0: for ever.", unit="s", validator=ge(0)
    )
    start_deadline_s: float = option(
        120.0, "How long the workers may take to join once the manager started them.", unit="s", validator=gt(0)
    )
    barrier_deadline_s: float = option(
        0.0,
        "Deadline of barriers, and of waits for an operator's items or room, that give none; 0: as long as all workers "
        "are alive.",
        unit="s",
        validator=ge(0),
    )
    master_lost_s: float = option(
        15.0, "Workers end when the master has been silent for so long.", unit="s", validator=gt(0)
    )
    master_return_s: float = option(
        30.0,
        "How long workers wait for a job master that its resource manager starts again, in place of master_lost_s.",
        unit="s",
        validator=gt(0),
    )
    kill_grace_s: float = option(3.0, "Time between asking a process to end and killing it.", unit="s", validator=ge(0))
    threads_deadline_s: float = option(
        30.0,
        "How long threads and exit handlers of the program may go on once its function has returned.",
        unit="s",
        validator=ge(0),
    )
    result_limit_mb: int = option(64, "Largest result of one worker that run() returns.", unit="MiB", validator=ge(1))
    package_limit_mb: int = option(
        512, "Largest job package that is shipped to the workers.", unit="MiB", validator=ge(1)
    )
    files: tuple[str, ...] = option((), "Further files and folders shipped with the program.")
    wheels: tuple[str, ...] = option(
        (),
        "Wheels, or folders of wheels, shipped with the program: unpacked once per node, and imported before what is "
        "installed there.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = option(
        "info", "Lowest level of log records that workers send."
    )
    log_limit_mb: int = option(
        256,
        "Size of each worker's log, and of the event log; the oldest part is removed then. 0: any size.",
        unit="MiB",
        validator=ge(0),
    )
    graph: GraphConfig = option(GraphConfig(), "How task graphs are planned.")
    network: NetworkConfig = option(NetworkConfig(), "What all transports share.")
    checkpoint: CheckpointConfig = option(CheckpointConfig(), "Checkpoints.")
