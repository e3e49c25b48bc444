"""Options of the plugin."""

from __future__ import annotations

from typing import Any

import attrs
from attrs.validators import ge, gt

from twister2.spec.options import option


def _one_line(_: Any, attribute: attrs.Attribute[Any], value: str | tuple[str, ...]) -> None:
    for text in (value,) if isinstance(value, str) else value:
        if "\n" in text or "\0" in text:
            raise ValueError(f"{attribute.name!r} must not contain line breaks: {text!r}")


def _sbatch_options(_: Any, attribute: attrs.Attribute[Any], value: tuple[str, ...]) -> None:
    for text in value:
        if not text.startswith("-"):
            raise ValueError(f"{attribute.name!r} holds options such as '--reservation=night', not {text!r}")


@attrs.frozen(kw_only=True)
class SlurmConfig:
    """Options of ``[rm.slurm]``."""

    partition: str = option("", "Partition to submit to; the cluster's default when empty.", validator=_one_line)
    account: str = option("", "Account to charge; the user's default when empty.", validator=_one_line)
    qos: str = option("", "Quality of service; the cluster's default when empty.", validator=_one_line)
    constraint: str = option("", "Features the nodes must have, e.g. 'skylake'.", validator=_one_line)
    gres: str = option("", "Generic resources of every node, e.g. 'gpu:a100:2'.", validator=_one_line)
    licenses: str = option("", "Licences the job needs, e.g. 'matlab:2'.", validator=_one_line)
    exclusive: bool = option(False, "Share the nodes with no other job.")
    inside: bool = option(
        True, "Inside an allocation (salloc, or a script of sbatch) start workers in it, and submit no batch job."
    )
    nodes: int = option(0, "Number of nodes; as many as the workers need when 0.", unit="1", validator=ge(0))
    hetjob: bool = option(
        True,
        "Groups of workers that differ become components of a heterogeneous job; else, and where rm.slurm.nodes is "
        "set, every worker gets the largest share of each resource.",
    )
    master_restarts: int = option(
        3,
        "How often a job master in the allocation that has died is started again, before the job ends.",
        unit="1",
        validator=ge(0),
    )
    requeue: bool = option(
        False,
        "The job may go back into Slurm's queue, and goes on from its latest commit when it runs again: before its "
        "time limit if it has committed something, when an administrator requeues it, or when its first node fails.",
    )
    tasks_per_node: int = option(0, "Workers per node; Slurm decides when 0.", unit="1", validator=ge(0))
    master_seat: bool = option(
        False,
        "Ask for one more worker's share for the job master; else it shares the first node with the workers there.",
    )
    sbatch: tuple[str, ...] = option(
        (), "Further options of sbatch, e.g. '--reservation=night'.", validator=[_one_line, _sbatch_options]
    )
    without: tuple[str, ...] = option(
        (),
        "Options of sbatch that are left out though this plugin would give them, by name, e.g. 'mem-per-cpu' where a "
        "cluster forbids it.",
        validator=_one_line,
    )
    srun: tuple[str, ...] = option(
        (), "Further options of the srun that starts workers, e.g. '--cpu-bind=cores'.", validator=[_one_line]
    )
    prologue: tuple[str, ...] = option(
        (), "Lines of bash run before anything else of the job, e.g. 'module load python'.", validator=_one_line
    )
    export: tuple[str, ...] = option(
        ("ALL",), "Variables of the submitting shell that the job gets: 'ALL', or names.", validator=_one_line
    )
    mpi: str = option(
        "", "Plugin of 'srun --mpi' for transports that need a process world; the world's own name when empty."
    )
    hold_s: float = option(
        30.0,
        "With the job master in the client: how long the allocation waits for a new attempt after workers failed.",
        unit="s",
        validator=ge(0),
    )
    poll_s: float = option(
        0.2, "Time between two looks at log files, and at a job that is being killed.", unit="s", validator=gt(0)
    )
    bin: str = option("", "Folder of sbatch, srun, squeue...; found on PATH when empty.", validator=_one_line)
