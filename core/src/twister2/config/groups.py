"""Groups of workers that differ: the tables ``[job.groups.<name>]``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import attrs
from attrs.validators import ge, gt, optional

from twister2.spec.options import option
from twister2.spec.values import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twister2.config.job import JobConfig
    from twister2.config.structure import Report
    from twister2.spec.rm import ResourceGroup

ONLY = "worker"
"""Name of the one group of a job that names none."""
_NAME = re.compile(r"[a-z][a-z0-9-]{0,19}")


@attrs.frozen(kw_only=True, eq=False, repr=False)
class GroupConfig(Value):
    """Options of ``[job.groups.<name>]``: equal workers; what is left out is as in ``[job]``."""

    count: int = option(1, "Number of workers of the group.", unit="1", validator=ge(1))
    cpus: float | None = option(None, "CPUs of one worker's share.", unit="1", validator=optional(gt(0)))
    memory_mb: int | None = option(None, "Memory limit of one worker.", unit="MiB", validator=optional(ge(0)))
    disk_mb: int | None = option(None, "Scratch space of one worker.", unit="MiB", validator=optional(ge(0)))
    gpus: int | None = option(None, "GPUs of one worker.", unit="1", validator=optional(ge(0)))
    scalable: bool = option(True, "Whether 'twister2 scale' may change the number of its workers.")


def fit_for_names(_: object, attribute: attrs.Attribute[Any], groups: Mapping[str, GroupConfig]) -> None:
    """Whether the names of groups can be used by every resource manager.

    :raises ValueError: one of them cannot.
    """
    for name in groups:
        if not _NAME.fullmatch(name) or name == "master":
            raise ValueError(
                f"'{attribute.name}' has a group {name!r}: names are 1 to 20 lower-case letters, digits and hyphens, "
                "begin with a letter, and are not 'master'"
            )


def resource_groups(job: JobConfig) -> tuple[ResourceGroup, ...]:
    """The groups of a job's workers, in the order of their slots; one group where none are configured."""
    from twister2.spec.rm import ResourceGroup

    groups = job.groups or {ONLY: GroupConfig(count=job.workers)}
    return tuple(
        ResourceGroup(
            name=name,
            count=group.count,
            cpus=job.cpus if group.cpus is None else group.cpus,
            memory_mb=job.memory_mb if group.memory_mb is None else group.memory_mb,
            disk_mb=job.disk_mb if group.disk_mb is None else group.disk_mb,
            gpus=job.gpus if group.gpus is None else group.gpus,
            scalable=group.scalable,
        )
        for name, group in groups.items()
    )


def counted(job: JobConfig, report: Report) -> JobConfig:
    """The job with ``workers`` as many as its groups have; another number that was given beside them is a problem."""
    if not job.groups:
        return job
    total = sum(group.count for group in job.groups.values())
    given = report.origins.get("job.workers", "default")
    if given != "default" and job.workers != total:
        counts = ", ".join(f"{name} {group.count}" for name, group in job.groups.items())
        report.problem(
            "job.workers", f"is {job.workers}, but job.groups has {total} workers ({counts}); give their counts", given
        )
    return attrs.evolve(job, workers=total)
