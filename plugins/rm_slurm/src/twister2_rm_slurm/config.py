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
    nodes: int = option(0, "Number of nodes; as many as the workers need when 0.", unit="1", validator=ge(0))
    tasks_per_node: int = option(0, "Workers per node; Slurm decides when 0.", unit="1", validator=ge(0))
    master_seat: bool = option(
        False,
        "Ask for one more worker's share for the job master; else it shares the first node with the workers there.",
    )
    sbatch: tuple[str, ...] = option(
        (), "Further options of sbatch, e.g. '--reservation=night'.", validator=[_one_line, _sbatch_options]
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
