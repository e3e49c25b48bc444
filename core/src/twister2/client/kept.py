"""What the resource manager has kept of a detached job whose master shares no files with this shell."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from twister2.control.echo import EVENT, JOB, WORKER, parse
from twister2.spec.errors import Twister2Error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twister2.master.journal import Journal
    from twister2.spec.rm import JobHandle, ResourceManager


def kept_lines(backend: ResourceManager, handle: JobHandle, *, follow: bool = False) -> Iterator[tuple[str, str]]:
    """What the master wrote there: pairs of name (``worker-N``, ``event``, ``job``) and line, oldest first.

    :param follow: go on until the job has ended.

    :raises ResourceError: the manager cannot be reached.
    """
    if "state" in backend.offers.shared_files:
        return
    rest = ""
    for chunk in backend.logs(handle, follow=follow):
        if chunk.slot < 0:
            *lines, rest = (rest + chunk.text).split("\n")
            yield from (parsed for parsed in map(parse, lines) if parsed[0])


def kept_output(backend: ResourceManager, handle: JobHandle, *, follow: bool) -> Iterator[tuple[str, bytes]]:
    """What the workers wrote, as (``worker-N``, line): in the order of workers, or as it came with ``follow``."""
    lines = kept_lines(backend, handle, follow=follow)
    output = ((name, text.encode()) for name, text in lines if name.startswith(WORKER))
    yield from output if follow else sorted(output, key=lambda pair: int(pair[0].removeprefix(WORKER)))


def noted_end(backend: ResourceManager, handle: JobHandle) -> dict[str, Any]:
    """How the job ended, ``state`` and ``error``, as its master noted it with a manager that starts masters again;
    empty when there is no such note.
    """
    with contextlib.suppress(Twister2Error, ValueError, KeyError, TypeError):
        if backend.offers.restarts_master and (note := backend.remembered(handle)):
            return json.loads(note)["ended"] or {}
    return {}


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
