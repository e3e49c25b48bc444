"""Files of a job that this manager keeps: below ``<state_dir>/rm-standalone/<job id>/`` (0700).

``allocation.json`` what was asked for (nothing secret); ``ticket`` (0600) what the copies read; ``journal`` what the
launchers wrote down, one line per event; ``killed`` the time of a kill; ``order-*.json`` orders to launchers that have
not read them yet. What copies write lies in the job's own folder and outlives :meth:`RmFolder.remove`.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import attrs

from twister2.spec.errors import JobNotFoundError, ResourceError

LENGTHS = {"launcher": 2, "start": 4, "end": 3, "walltime": 1}
"""Numbers in a line of the journal."""


@attrs.frozen
class Copy:
    """The latest copy of a slot.

    :ivar launcher: process id of the launcher that started it.
    :ivar code: exit code, 128 + signal for a signal; None while it runs or when nobody saw its end.
    """

    slot: int
    pid: int
    start: int
    launcher: int
    code: int | None = None


@attrs.frozen
class Journal:
    """What the launchers wrote down.

    :ivar launchers: process ids and start times of all launchers of the job. :ivar copies: the latest copy per slot.
    :ivar asked: slots a launcher was started for that has not started them yet, with that launcher; None when it has
        not been written down yet.
    :ivar walltime: whether the walltime was reached.
    """

    launchers: tuple[tuple[int, int], ...] = ()
    copies: dict[int, Copy] = attrs.field(factory=dict)
    asked: dict[int, tuple[int, int] | None] = attrs.field(factory=dict)
    walltime: bool = False


class RmFolder:
    """The folder of one job."""

    def __init__(self, state_dir: str, job_id: str) -> None:
        self.job_id = job_id
        self.path = Path(state_dir).absolute() / "rm-standalone" / job_id
        self.ticket = self.path / "ticket"
        self.journal = self.path / "journal"
        self.killed = self.path / "killed"

    @property
    def exists(self) -> bool:
        return (self.path / "allocation.json").exists()

    def create(self) -> None:
        """Make the folder; nobody else may look into it.

        :raises ResourceError: it exists (a job of that id) or cannot be made.
        """
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.mkdir(mode=0o700)
            os.close(os.open(self.journal, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError as error:
            raise ResourceError(
                f"job {self.job_id} was already started",
                why=f"{self.path} exists",
                remedy="use another job id, or remove the old job with: twister2 clean",
            ) from error
        except OSError as error:
            raise self._failed("cannot make the folder of", error) from error

    def write(self, name: str, data: bytes) -> Path:
        """Put a file (0600) there as a whole: a reader sees the old one or the new one."""
        target = self.path / name
        try:
            # mkstemp: 0600 whatever the umask, and a name of its own for each writer
            number, temporary = tempfile.mkstemp(prefix=f".{name}-", dir=self.path)
            with os.fdopen(number, "wb") as file:
                file.write(data)
            os.replace(temporary, target)
        except FileNotFoundError as error:
            raise JobNotFoundError(
                f"job {self.job_id} is not known here",
                why=f"{self.path} does not exist",
                remedy="the job was cleaned away, or belongs to another state folder (job.state_dir)",
            ) from error
        except OSError as error:
            raise self._failed(f"cannot write {name} of", error) from error
        return target

    def write_json(self, name: str, data: Any) -> Path:
        return self.write(name, json.dumps(data).encode())

    def read_json(self, name: str) -> Any | None:
        """The file's data, None when there is no such file."""
        try:
            return json.loads((self.path / name).read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._failed(f"cannot read {name} of", error) from error

    def note(self, line: str) -> None:
        """Append one line to the journal; one appended write is not torn by other writers."""
        number = os.open(self.journal, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(number, f"{line}\n".encode())
        finally:
            os.close(number)

    def read_journal(self) -> Journal:
        """What is known of launchers and copies; empty when there is no journal."""
        try:
            text = self.journal.read_text("utf-8")
        except FileNotFoundError:
            return Journal()
        except OSError as error:
            raise self._failed("cannot read the journal of", error) from error
        launchers: list[tuple[int, int]] = []
        copies: dict[int, Copy] = {}
        asked: dict[int, tuple[int, int] | None] = {}
        walltime = False
        for line in text[: text.rfind("\n") + 1].splitlines():
            event, *rest = line.split() or [""]
            if len(rest) != LENGTHS.get(event, len(rest)) or not all(each.isdecimal() for each in rest):
                continue  # cut by a full disk, and written again
            numbers = [int(each) for each in rest]
            if event == "launcher":
                launchers.append((numbers[0], numbers[1]))
                asked.update({slot: launchers[-1] for slot, by in asked.items() if by is None})
            elif event == "asked":
                asked.update(dict.fromkeys(numbers))
            elif event == "start":
                asked.pop(numbers[0], None)
                copies[numbers[0]] = Copy(*numbers)
            elif event == "end":
                slot, pid, code = numbers
                if slot in copies and copies[slot].pid == pid:
                    copies[slot] = attrs.evolve(copies[slot], code=code)
            elif event == "walltime":
                walltime = True
        return Journal(tuple(launchers), copies, asked, walltime)

    def remove(self) -> list[str]:
        """Remove the folder; returns what could not be removed, in words."""
        left: list[str] = []

        def note(_function: Any, path: str, error: tuple[Any, BaseException, Any]) -> None:
            if not isinstance(error[1], FileNotFoundError):
                left.append(f"{path}: {error[1]}")

        shutil.rmtree(self.path, onerror=note)
        return left

    def _failed(self, doing: str, error: OSError) -> ResourceError:
        return ResourceError(
            f"{doing} job {self.job_id}",
            why=f"{error.strerror or error} ({error.filename or self.path})",
            remedy="raise the limit on the size of files (ulimit -f)"
            if error.errno == errno.EFBIG
            else "check space and permissions of the state folder (job.state_dir)",
            where=str(self.path),
        )
