"""What a job asks of Slurm and runs there: worked out once at submit, kept in the job's folder for later attempts."""

from __future__ import annotations

import json
import math
import os
import pathlib
import shutil
import unicodedata
from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from twister2.spec.errors import ResourceError, SubmissionRefusedError

if TYPE_CHECKING:
    from twister2.spec.rm import Allocation
    from twister2_rm_slurm.config import SlurmConfig

NAME_LIMIT = 60
# What one line of the script, and Slurm's own reading of options and file names, cannot carry.
UNFIT = frozenset('\n\r\0"\\')


@attrs.frozen
class Files:
    """Everything this plugin keeps of a job lies in ``<job folder>/slurm``, on a file system that all nodes see."""

    root: str

    @classmethod
    def of(cls, folder: str) -> Files:
        return cls(os.path.join(folder, "slurm"))

    def path(self, name: str) -> pathlib.Path:
        return pathlib.Path(self.root, name)

    @property
    def ticket(self) -> pathlib.Path:
        return self.path("ticket")

    @property
    def master_ticket(self) -> pathlib.Path:
        return self.path("master-ticket")

    @property
    def plan(self) -> pathlib.Path:
        return self.path("plan.json")

    @property
    def script(self) -> pathlib.Path:
        return self.path("job.sh")

    @property
    def log(self) -> pathlib.Path:
        return self.path("job.log")

    @property
    def master_log(self) -> pathlib.Path:
        return self.path("master.log")

    @property
    def master_host(self) -> pathlib.Path:
        return self.path("master-host")

    @property
    def released(self) -> pathlib.Path:
        return self.path("released")

    @property
    def killed(self) -> pathlib.Path:
        return self.path("killed")

    @property
    def ended(self) -> pathlib.Path:
        return self.path("ended")

    @property
    def cleaned(self) -> pathlib.Path:
        return self.path("cleaned")

    def slot_log(self, slot: int, stream: str) -> pathlib.Path:
        return self.path(f"slot-{slot}.{'out' if stream == 'stdout' else 'err'}")

    def step_log(self, attempt: int, number: int) -> pathlib.Path:
        return self.path(f"step-{attempt:04d}-{number:04d}.log")

    def step_logs(self) -> list[pathlib.Path]:
        return sorted(pathlib.Path(self.root).glob("step-*.log"))

    def write(self, path: pathlib.Path, data: bytes, mode: int = 0o600) -> None:
        """Write a file atomically, so that readers on any node see the old one or the new one.

        :raises ResourceError: the disk is full, the folder is gone.
        """
        temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise ResourceError(
                f"cannot write {path}",
                why=error.strerror or str(error),
                remedy="free space, or put job.state_dir on a file system that this host and the nodes share",
            ) from error

    def make(self) -> None:
        """Make the folder, for its owner only."""
        try:
            os.makedirs(self.root, mode=0o700, exist_ok=True)
            os.chmod(self.root, 0o700)
        except OSError as error:
            raise ResourceError(
                f"cannot make {self.root}",
                why=error.strerror or str(error),
                remedy="free space, or set job.state_dir to another folder",
            ) from error

    def remove(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)


@attrs.frozen
class Plan:
    """Sizes and commands of a job. Groups of unequal workers are asked for at the size of the largest of each
    resource: the whole job is one step, hence one process world, and task number = slot.

    :ivar mem_per_cpu: MiB, 0 for the cluster's default. :ivar tmp_mb: MiB of scratch a node must have.
    """

    job_id: str
    name: str
    folder: str
    n_workers: int
    seats: int
    cpus: int
    mem_per_cpu: int
    tmp_mb: int
    gpus: int
    overcommit: bool
    walltime_s: int
    world: str | None
    environment: Mapping[str, str]
    worker_command: tuple[str, ...]
    master_command: tuple[str, ...]
    """Empty when the master lives in the client."""
    unequal: bool

    @property
    def files(self) -> Files:
        return Files.of(self.folder)

    @classmethod
    def of(cls, allocation: Allocation, config: SlurmConfig) -> Plan:
        """:raises SubmissionRefusedError: the folder's path cannot be told to Slurm."""
        folder = os.path.abspath(allocation.folder)
        if UNFIT & set(folder):
            raise SubmissionRefusedError(
                f"the job's folder cannot be told to Slurm: {folder!r}",
                why="its path holds a line break, a double quote or a backslash",
                remedy="set job.state_dir to a folder with a plainer name",
            )
        groups = [group for group in allocation.groups if group.count > 0]
        everybody = [*groups, allocation.master] if allocation.master and config.master_seat else groups
        cpus = max((math.ceil(group.cpus) for group in everybody), default=1) or 1
        memory = max((group.memory_mb for group in everybody), default=0)
        disk = max((group.disk_mb for group in groups), default=0)
        sizes = {(group.cpus, group.memory_mb, group.disk_mb, group.gpus) for group in groups}
        seats = allocation.n_workers + (1 if allocation.master and config.master_seat else 0)
        return cls(
            job_id=allocation.job_id,
            name=clean_name(allocation.name) or allocation.job_id,
            folder=folder,
            n_workers=allocation.n_workers,
            seats=seats,
            cpus=cpus,
            mem_per_cpu=math.ceil(memory / cpus),
            tmp_mb=disk * (config.tasks_per_node or 1),
            gpus=max((group.gpus for group in groups), default=0),
            overcommit=allocation.oversubscribe,
            walltime_s=allocation.walltime_s,
            world=allocation.world,
            environment=dict(allocation.environment),
            worker_command=allocation.worker_command,
            master_command=allocation.master_command if allocation.master else (),
            unequal=len(sizes) > 1,
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
