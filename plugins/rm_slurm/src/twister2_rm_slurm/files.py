"""Where what this plugin keeps of a job lies."""

from __future__ import annotations

import os
import pathlib
import shutil
from typing import TYPE_CHECKING

import attrs

from twister2.spec.errors import ResourceError

if TYPE_CHECKING:
    from twister2.spec.rm import JobHandle


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

    @property
    def clock(self) -> pathlib.Path:
        """Lines of bash: what the job's script knows of the job's time, for copies that it does not start itself."""
        return self.path("clock")

    @property
    def restarts_left(self) -> pathlib.Path:
        """How often the script will start the job master again."""
        return self.path("restarts-left")

    @property
    def note(self) -> pathlib.Path:
        return self.path("note")

    @property
    def outcome(self) -> pathlib.Path:
        return self.path("outcome")

    @property
    def size(self) -> pathlib.Path:
        return self.path("size")

    def more_logs(self) -> list[pathlib.Path]:
        """What the scripts of additional batch jobs wrote."""
        return sorted(pathlib.Path(self.root).glob("more-*.log"))

    def released_more(self, number: int) -> pathlib.Path:
        return self.path(f"released-{number:04d}")

    def more_log(self, number: int) -> pathlib.Path:
        return self.path(f"more-{number:04d}.log")

    def more_script(self, number: int) -> pathlib.Path:
        return self.path(f"more-{number:04d}.sh")

    def slot_log(self, slot: int, stream: str) -> pathlib.Path:
        return self.path(f"slot-{slot}.{'out' if stream == 'stdout' else 'err'}")

    def step_log(self, attempt: int, number: int) -> pathlib.Path:
        return self.path(f"step-{attempt:04d}-{number:04d}.log")

    def step_logs(self) -> list[pathlib.Path]:
        """The logs of all steps of workers, in the order in which they were started."""
        return sorted(pathlib.Path(self.root).glob("step-*.log"), key=lambda path: path.stem.rpartition("-")[2])

    def more(self) -> list[pathlib.Path]:
        """The records of additional batch jobs, in the order in which they were submitted."""
        return sorted(pathlib.Path(self.root).glob("more-*.json"))

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


def folder_of(handle: JobHandle) -> str:
    """The job's folder, empty when the handle names none."""
    return str(handle.facts.get("folder", ""))


def files_of(handle: JobHandle) -> Files:
    """What this plugin keeps of the job."""
    return Files.of(folder_of(handle))
