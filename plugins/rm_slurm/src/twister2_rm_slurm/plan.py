"""What a job asks of Slurm and runs there: worked out once at submit, kept in the job's folder for later attempts."""

from __future__ import annotations

import json
import math
import os
import unicodedata
from collections.abc import Mapping
from itertools import accumulate, groupby
from typing import TYPE_CHECKING

import attrs

from twister2.spec.errors import ResourceError, SubmissionRefusedError
from twister2_rm_slurm.files import Files

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2.spec.rm import Allocation, ResourceGroup
    from twister2_rm_slurm.config import SlurmConfig

NAME_LIMIT = 60
# What one line of the script, and Slurm's own reading of options and file names, cannot carry.
UNFIT = frozenset('\n\r\0"\\')


@attrs.frozen
class Shape:
    """Equal copies: what a job, a component of a heterogeneous one, or an additional job asks for.

    :ivar count: copies. :ivar mem_per_cpu: MiB, 0 for the cluster's default.
    :ivar tmp_mb: MiB of scratch a node must have.
    """

    count: int
    cpus: int
    mem_per_cpu: int
    tmp_mb: int
    gpus: int

    @classmethod
    def of(cls, groups: Sequence[ResourceGroup], config: SlurmConfig, count: int, seat: ResourceGroup | None) -> Shape:
        """The largest share of each resource.

        :param seat: the job master, where it gets a share of its own.
        """
        everybody = [*groups, seat] if seat else groups
        cpus = max((math.ceil(group.cpus) for group in everybody), default=1) or 1
        memory = max((group.memory_mb for group in everybody), default=0)
        disk = max((group.disk_mb for group in groups), default=0)
        return cls(
            count=count,
            cpus=cpus,
            mem_per_cpu=math.ceil(memory / cpus),
            tmp_mb=disk * (config.tasks_per_node or 1),
            gpus=max((group.gpus for group in groups), default=0),
        )


def _size(group: ResourceGroup) -> tuple[float, int, int, int]:
    return group.cpus, group.memory_mb, group.disk_mb, group.gpus


@attrs.frozen
class Plan:
    """Sizes and commands of a job.

    :ivar shapes: one, or one for each component of a heterogeneous job; slots are numbered through them.
    :ivar seats: 1 where the job master has a share of its own, in the first component; else 0.
    :ivar master_command: empty when the master lives in the client.
    :ivar unequal: the groups of workers differ, and all get the largest share of each resource.
    :ivar requeue: Slurm may put the job back into its queue.
    """

    job_id: str
    name: str
    folder: str
    shapes: tuple[Shape, ...]
    seats: int
    overcommit: bool
    walltime_s: int
    world: str | None
    environment: Mapping[str, str]
    worker_command: tuple[str, ...]
    master_command: tuple[str, ...]
    unequal: bool
    requeue: bool = False

    @property
    def files(self) -> Files:
        return Files.of(self.folder)

    @property
    def n_workers(self) -> int:
        """Slots at the job's start."""
        return sum(shape.count for shape in self.shapes)

    def slots(self) -> list[range]:
        """The slots of each component."""
        ends = list(accumulate(shape.count for shape in self.shapes))
        return [range(end - shape.count, end) for end, shape in zip(ends, self.shapes, strict=True)]

    @classmethod
    def of(cls, allocation: Allocation, config: SlurmConfig, *, batch: bool = True) -> Plan:
        """
        :param batch: for a batch job; else for steps of an allocation that is there already.
        :raises SubmissionRefusedError: the folder's path cannot be told to Slurm.
        """
        folder = os.path.abspath(allocation.folder)
        if UNFIT & set(folder):
            raise SubmissionRefusedError(
                f"the job's folder cannot be told to Slurm: {folder!r}",
                why="its path holds a line break, a double quote or a backslash",
                remedy="set job.state_dir to a folder with a plainer name",
            )
        groups = [group for group in allocation.groups if group.count > 0]
        seat = allocation.master if config.master_seat else None
        alike = [list(each) for _, each in groupby(groups, _size)]
        differ = len(alike) > 1
        apart = differ and batch and config.hetjob and not config.nodes
        parts = alike if apart else [groups]
        shapes = tuple(
            Shape.of(part, config, sum(group.count for group in part), None if number else seat)
            for number, part in enumerate(parts)
        )
        return cls(
            job_id=allocation.job_id,
            name=clean_name(allocation.name) or allocation.job_id,
            folder=folder,
            shapes=shapes,
            seats=1 if seat else 0,
            overcommit=allocation.oversubscribe,
            walltime_s=allocation.walltime_s,
            world=allocation.world,
            environment=dict(allocation.environment),
            worker_command=allocation.worker_command,
            master_command=allocation.master_command if allocation.master else (),
            unequal=differ and not apart,
            requeue=batch and config.requeue,
        )

    def check_new(self) -> None:
        """:raises SubmissionRefusedError: this job was submitted before."""
        if self.files.plan.exists():
            raise SubmissionRefusedError(
                f"job {self.job_id} was submitted already",
                why=f"{self.files.plan} is there",
                remedy=f"end it first: twister2 kill {self.job_id}",
            )

    def save(self) -> None:
        """:raises ResourceError: the folder cannot be written."""
        self.files.write(self.files.plan, json.dumps(attrs.asdict(self), indent=1).encode())

    @classmethod
    def load(cls, folder: str) -> Plan:
        """:raises ResourceError: the job's folder is gone or cannot be read here."""
        path = Files.of(folder).plan
        try:
            values = json.loads(path.read_bytes())
            for key in ("worker_command", "master_command"):
                values[key] = tuple(values[key])
            values["shapes"] = tuple(Shape(**shape) for shape in values["shapes"])
            return cls(**values)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ResourceError(
                f"cannot read {path}",
                why=str(error),
                remedy="do this on a host that shares the job's folder, and do not remove it while the job runs",
            ) from error


def clean_name(name: str) -> str:
    """A name as Slurm's listings can show it: ASCII letters, digits and ``._-``, at most 60 of them."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    kept = "".join(char if char.isalnum() or char in "._-" else "-" for char in plain)
    while "--" in kept:
        kept = kept.replace("--", "-")
    return kept.strip("-.")[:NAME_LIMIT]


def time_limit(seconds: int) -> str:
    """Seconds as Slurm's ``days-hours:minutes:seconds``."""
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    day, hour = divmod(hours, 24)
    return f"{day}-{hour:02d}:{minute:02d}:{second:02d}"
