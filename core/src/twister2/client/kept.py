"""What the resource manager has kept of a detached job whose master shares no files with this shell."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from typing import TYPE_CHECKING, Any

import attrs

from twister2.control.echo import EVENT, JOB, WORKER, parse
from twister2.master.returning import Note
from twister2.spec.errors import MissingToolError, ResourceError, SubmissionRefusedError, Twister2Error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twister2.master.journal import Journal
    from twister2.spec.rm import JobHandle, LogChunk, ResourceManager


AGAIN_S = 2.0
"""Time between two tries to read on where the manager is away."""


def chunks(backend: ResourceManager, handle: JobHandle, *, follow: bool) -> Iterator[LogChunk]:
    """What the manager has of a job's logs. Who follows them is told on stderr when it is away, and goes on when it is
    back: it begins at the beginning then, and what has been read is left out.

    :raises ResourceError: it cannot be reached, and nothing is followed; or it refuses, or a program is not here.
    """
    read: dict[tuple[int, str], int] = {}
    told = False
    while True:
        again = dict(read)
        try:
            for chunk in backend.logs(handle, follow=follow):
                source = chunk.slot, chunk.stream
                known = min(again.get(source, 0), len(chunk.text))
                again[source] = again.get(source, 0) - known
                if text := chunk.text[known:]:
                    read[source] = read.get(source, 0) + len(text)
                    told = False
                    yield attrs.evolve(chunk, text=text)
            return
        except ResourceError as error:
            if not follow or isinstance(error, (SubmissionRefusedError, MissingToolError)):
                raise
            if not told:
                told = True
                print(f"waiting for the resource manager: {error.what} ({error.why})", file=sys.stderr, flush=True)
            time.sleep(AGAIN_S)


def kept_lines(backend: ResourceManager, handle: JobHandle, *, follow: bool = False) -> Iterator[tuple[str, str]]:
    """What the master wrote there: pairs of name (``worker-N``, ``event``, ``job``) and line, oldest first.

    :param follow: go on until the job has ended.

    :raises ResourceError: the manager cannot be reached.
    """
    if "state" in backend.offers.shared_files:
        return
    rest = ""
    for chunk in chunks(backend, handle, follow=follow):
        if chunk.slot < 0:
            *lines, rest = (rest + chunk.text).split("\n")
            yield from (parsed for parsed in map(parse, lines) if parsed[0])


def kept_output(backend: ResourceManager, handle: JobHandle, *, follow: bool) -> Iterator[tuple[str, bytes]]:
    """What the workers wrote, as (``worker-N``, line): in the order of workers, or as it came with ``follow``."""
    lines = kept_lines(backend, handle, follow=follow)
    output = ((name, text.encode()) for name, text in lines if name.startswith(WORKER))
    yield from output if follow else sorted(output, key=lambda pair: int(pair[0].removeprefix(WORKER)))


def noted(backend: ResourceManager, handle: JobHandle) -> Note | None:
    """What the job's master has noted with a manager that starts masters again; None when there is no such note, or
    the manager cannot be asked.
    """
    with contextlib.suppress(Twister2Error):
        if backend.offers.restarts_master and (note := backend.remembered(handle)):
            return Note.decode(note)
    return None


def fetch(backend: ResourceManager, handle: JobHandle, journal: Journal) -> dict[str, Any] | None:
    """Write logs and events where those of other jobs are, before the manager removes them with the rest of the job.

    :return: how the job ended, ``state`` and ``error``; None when its master did not say so.
    """
    end: dict[str, Any] | None = None
    with contextlib.suppress(Twister2Error, ValueError):
        for name, text in kept_lines(backend, handle):
            if name == EVENT:
                journal.append(json.loads(text))
            elif name == JOB:
                end = json.loads(text)
            else:
                journal.output(int(name.removeprefix(WORKER)), text + "\n")
    return end
