"""Job records: what any shell of the user needs to find a job again."""

from __future__ import annotations

import json
import os
import pathlib
import time
from typing import TYPE_CHECKING, Any

import attrs
from attrs.validators import instance_of

from twister2.control.folders import job_folder
from twister2.control.ticket import write_private
from twister2.master.journal import STATE
from twister2.spec.errors import JobNotFoundError
from twister2.spec.rm import JobHandle, JobState
from twister2.spec.values import Value
from twister2.worker.processes import start_ticks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RECORD = "record.json"
SUBMITTING = "submitting"
"""In a job's folder until it has a record: host, process id and start time of its client."""
UNSAID_S, ELSEWHERE_S = 60.0, 86400.0
"""Age of a folder without a record that was left behind: nobody is named, or somebody on another host."""


@attrs.frozen(eq=False, repr=False)
class JobRecord(Value):
    """Written once by the client when the manager has accepted the job; 0600.

    :ivar master_process: host, process id and start time of a master that is no part of the allocation.
    :ivar handle: the allocation. :ivar addresses: of the master, if known to the client. :ivar resolved, pins: to make
        the same resource manager backend again. :ivar started: seconds since the epoch.
    """

    job_id: str = attrs.field(validator=instance_of(str))
    name: str
    program: str
    n_workers: int = attrs.field(validator=instance_of(int))
    profile: str
    handle: dict[str, Any]
    addresses: tuple[str, ...]
    master_in_client: bool
    master_public: str
    client_key: str = attrs.field(repr=False)
    resolved: dict[str, Any] = attrs.field(repr=False)
    pins: dict[str, Any] = attrs.field(repr=False)
    master_process: tuple[str, int, int] | None = None
    started: float = attrs.field(factory=time.time, validator=instance_of((int, float)))

    @property
    def job_handle(self) -> JobHandle:
        return JobHandle(**self.handle)

    def write(self, folder: pathlib.Path, *, durable: bool = False) -> None:
        """
        :param durable: as of :func:`~twister2.control.ticket.write_private`.
        """
        write_private(folder / RECORD, json.dumps(attrs.asdict(self)).encode(), durable=durable)
        (folder / SUBMITTING).unlink(missing_ok=True)

    @classmethod
    def read(cls, folder: pathlib.Path) -> JobRecord:
        values = json.loads((folder / RECORD).read_bytes())
        process = values.get("master_process")
        JobHandle(**values["handle"])
        return cls(
            **{
                **values,
                "addresses": tuple(values["addresses"]),
                "master_process": None if process is None else tuple(process),
            }
        )


@attrs.frozen(eq=False, repr=False)
class JobSummary(Value):
    """A job of the list: its record and what its folder says of its state."""

    record: JobRecord
    folder: pathlib.Path
    state: JobState
    facts: dict[str, Any]

    @property
    def reason(self) -> str:
        return str(self.facts.get("reason", ""))


def read_state(folder: pathlib.Path) -> dict[str, Any]:
    """The state file of a job's folder; empty when there is none yet, or nobody can make sense of it."""
    try:
        data: dict[str, Any] = json.loads((folder / STATE).read_bytes())
        JobState(data.get("state", "queued"))
        return data
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def summary(folder: pathlib.Path) -> JobSummary | None:
    """The job of a folder, or None when it has no readable record."""
    try:
        record = JobRecord.read(folder)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    facts = read_state(folder)
    return JobSummary(record, folder, JobState(facts.get("state", "queued")), facts)


def _folders(states: Sequence[pathlib.Path]) -> Iterator[pathlib.Path]:
    """The folders of jobs, as far as this user may look into them."""
    for state in states:
        try:
            folders = sorted((state / "jobs").iterdir())
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
        yield from (folder for folder in folders if os.access(folder, os.R_OK | os.X_OK))


def unreadable(states: Sequence[pathlib.Path]) -> list[pathlib.Path]:
    """Folders in state folders that have a record which no job can be made of."""
    return [folder for folder in _folders(states) if (folder / RECORD).exists() and summary(folder) is None]


def begin(folder: pathlib.Path) -> None:
    """Say in a job's new folder who submits it, until there is a record.

    :raises JobFailedError: it cannot be written.
    """
    write_private(folder / SUBMITTING, f"{os.uname().nodename} {os.getpid()} {start_ticks(os.getpid())}".encode())


def broken_off(states: Sequence[pathlib.Path]) -> list[pathlib.Path]:
    """Folders in state folders without a record, whose client was killed while it submitted."""
    return [folder for folder in _folders(states) if not (folder / RECORD).exists() and _is_left(folder)]


def _is_left(folder: pathlib.Path) -> bool:
    try:
        age_s = time.time() - folder.stat().st_mtime
    except OSError:  # it has just gone
        return False
    try:
        host, pid, start = (folder / SUBMITTING).read_text().split()
        if host == os.uname().nodename:
            return start_ticks(int(pid)) != int(start) and not (folder / RECORD).exists()
        return age_s > ELSEWHERE_S
    except FileNotFoundError:  # it is made at once
        # a record may have been made since it was looked for
        return folder.is_dir() and age_s > UNSAID_S and not (folder / RECORD).exists()
    except (OSError, ValueError):
        return age_s > ELSEWHERE_S


def all_jobs(states: Sequence[pathlib.Path]) -> list[JobSummary]:
    """All jobs of state folders, oldest first."""
    found = map(summary, _folders(states))
    return sorted((job for job in found if job is not None), key=lambda job: job.record.started)


def find_job(states: Sequence[pathlib.Path], text: str) -> JobSummary:
    """The job with this id, the beginning of an id, or a name (the latest of that name); ``last`` is the latest job.

    :raises JobNotFoundError: none, or several ids begin so.
    """
    for state in states if text and "/" not in text else ():
        exact = summary(job_folder(state, text))
        if exact is not None:
            return exact
    jobs = all_jobs(states)
    if text == "last" and jobs:
        return jobs[-1]
    named = [job for job in jobs if job.record.name == text]
    if named:
        return named[-1]
    # every id begins with nothing, which is most often a variable of a shell that is not set
    matching = [job for job in jobs if text and job.record.job_id.startswith(text)]
    if len(matching) == 1:
        return matching[0]
    where = ", ".join(str(state / "jobs") for state in states)
    what, why = (
        f"there is no job {text!r}",
        f"{len(jobs)} {'job is' if len(jobs) == 1 else 'jobs are'} recorded in {where}",
    )
    remedy = "see 'twister2 list' for ids and names"
    if matching:
        some = ", ".join(job.record.job_id for job in matching[:5]) + (", ..." if len(matching) > 5 else "")
        what, why = f"{text!r} is not one job", f"{len(matching)} ids begin so: {some}"
    elif not text:
        what, why = "no job was named", "the name is empty; is a variable of the shell not set?"
    else:
        remedy += "; one with another job.state_dir is found with --state-dir"
    raise JobNotFoundError(what, why=why, remedy=remedy)
