"""What this plugin keeps of a job on the submitting host: ``<state_dir>/rm-mesos/<job id>``, 0700."""

from __future__ import annotations

import fcntl
import json
import os
import pathlib
import shutil
import time
from typing import Any

import attrs

from twister2.spec.errors import ResourceError


@attrs.frozen
class Folder:
    """Files between the scheduler of a job and whoever asks for something: each is replaced as a whole."""

    root: pathlib.Path

    @classmethod
    def of(cls, state_dir: str, job_id: str) -> Folder:
        return cls(pathlib.Path(state_dir).absolute() / "rm-mesos" / job_id)

    @property
    def plan(self) -> pathlib.Path:
        return self.root / "plan.json"

    @property
    def ticket(self) -> pathlib.Path:
        return self.root / "ticket"

    @property
    def status(self) -> pathlib.Path:
        return self.root / "status.json"

    @property
    def kept(self) -> pathlib.Path:
        """What a scheduler that takes over must know: keys of the desk, tasks, the framework's id."""
        return self.root / "scheduler.json"

    @property
    def orders(self) -> pathlib.Path:
        return self.root / "orders"

    @property
    def killed(self) -> pathlib.Path:
        return self.root / "killed"

    @property
    def lock(self) -> pathlib.Path:
        return self.root / "lock"

    @property
    def log(self) -> pathlib.Path:
        return self.root / "scheduler.log"

    def make(self) -> None:
        """:raises ResourceError: it cannot be made."""
        try:
            self.orders.mkdir(parents=True, exist_ok=True)
            os.chmod(self.root, 0o700)
        except OSError as error:
            raise ResourceError(
                f"cannot make {self.root}",
                why=error.strerror or str(error),
                remedy="free space, or set job.state_dir to another folder",
            ) from error

    def write(self, path: pathlib.Path, data: bytes) -> None:
        """Replace a file as a whole, 0600.

        :raises ResourceError: the disk is full, the folder is gone.
        """
        new = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
        try:
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(data)
            os.replace(new, path)
        except OSError as error:
            new.unlink(missing_ok=True)
            raise ResourceError(
                f"cannot write {path}", why=error.strerror or str(error), remedy="free space on that disk"
            ) from error

    def put(self, path: pathlib.Path, value: Any) -> None:
        """Write plain data."""
        self.write(path, json.dumps(value).encode())

    def read(self, path: pathlib.Path) -> Any:
        """Plain data, None when there is no such file."""
        try:
            return json.loads(path.read_bytes())
        except (OSError, ValueError):
            return None

    def order(self, **what: Any) -> None:
        """Ask the scheduler for something; orders are taken in their order."""
        self.put(self.orders / f"{time.time_ns():020d}-{os.getpid()}", what)

    def waiting_orders(self) -> list[tuple[pathlib.Path, dict[str, Any]]]:
        """The orders that have come, each with its file; whoever has followed one removes it."""
        return [(path, self.read(path) or {}) for path in sorted(self.orders.glob("[0-9]*"))]

    def forget_orders(self) -> None:
        """Whatever waits counts as taken."""
        for path in self.orders.glob("[0-9]*"):
            path.unlink(missing_ok=True)

    def hold(self) -> int | None:
        """Become the job's one scheduler: a locked descriptor, None when there is one."""
        descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def held(self) -> bool:
        """Whether a scheduler of the job lives."""
        if not self.lock.exists():
            return False
        descriptor = self.hold()
        if descriptor is None:
            return True
        os.close(descriptor)
        return False

    def remove(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
