"""A client that goes away while it submits: the master, started before the allocation was asked for, ends what it had
begun. Nobody else could: there may be no record yet by which another shell would find the job.
"""

from __future__ import annotations

import pathlib
import shutil
import sys
import time
from typing import TYPE_CHECKING

from twister2.config import Resolved
from twister2.control.folders import runtime_path
from twister2.control.releasing import release
from twister2.host import Pins, PluginHost
from twister2.master.journal import Journal
from twister2.spec.errors import JobKilledError
from twister2.spec.rm import JobHandle, JobState, ResourceManager, RmContext

if TYPE_CHECKING:
    from twister2.control.master_ticket import MasterTicket

RECORD = "record.json"
LOOK_S = 5.0
"""How long it takes at the most until the manager shows a job that it was asked for."""


def remove_begun(folder: pathlib.Path) -> None:
    """Remove the folders of a job of which there is nothing else yet.

    :param folder: the job's folder in the state folder, named as the job.
    """
    shutil.rmtree(runtime_path(folder.name), ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def end_begun(ticket: MasterTicket) -> None:
    """End and remove whatever there is of a job whose allocation the client was asking for."""
    host = PluginHost.from_pins(Pins.from_dict(ticket.pins))
    resolved = Resolved.from_dict(ticket.resolved, host)
    folder = pathlib.Path(ticket.folder)
    rm = resolved.job.rm
    context = RmContext(state_dir=str(folder.parent.parent))
    backend: ResourceManager = host.create("rm", rm, resolved.plugin("rm", rm), context=context)
    try:
        handle = _found(backend, ticket.job_id)
        if handle is None and backend.offers.same_host:
            handle = JobHandle(rm, ticket.job_id, "")  # it may have begun to start it
        left = [] if handle is None else release(backend, handle, 0.5)
    finally:
        backend.close()
    for text in left:
        print(f"the client has gone while it submitted; still there: {text}", file=sys.stderr, flush=True)
    if not (folder / RECORD).exists() and not left:
        remove_begun(folder)
        return
    shutil.rmtree(runtime_path(ticket.job_id), ignore_errors=True)
    error = JobKilledError(
        "the job was killed", why="the client that the job belongs to has gone", remedy="submit it again when wanted"
    )
    journal = Journal(folder, limit_mb=resolved.job.log_limit_mb)
    state, told = journal.end(JobState.KILLED, error)
    journal.amend(tidied=not left)
    journal.say_ended("master", state, told)
    journal.close()


def _found(backend: ResourceManager, job_id: str) -> JobHandle | None:
    """What the manager knows of the job; one elsewhere may take it in after the client has gone."""
    until = time.monotonic() + (0.0 if backend.offers.same_host else LOOK_S)
    while (handle := backend.find(job_id)) is None and time.monotonic() < until:
        time.sleep(0.5)
    return handle
