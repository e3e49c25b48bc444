"""Reading what a job's workers wrote, while it runs and afterwards."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from twister2.client.jobs import backend_of
from twister2.client.kept import chunks, kept_output
from twister2.client.records import JobSummary, summary
from twister2.control.limitedlog import Part, parts
from twister2.master.journal import EVENTS

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator, Sequence

CHUNK = 1 << 20
FOLLOW_EVERY_S = 0.2
LAST_EVENT_S = 2.0
"""How long the event of a job's end may be written after its state."""


def log_lines(job: JobSummary, workers: Sequence[int] | None, follow: bool) -> Iterator[tuple[str, bytes]]:
    """Lines of the workers' logs, without their ends, as (``worker-N``, line), in the order of workers; with
    ``follow``, new ones as they come until the job has ended. Bytes, as the program wrote them.
    """
    offsets: dict[pathlib.Path, int] = {}
    if not (job.folder / EVENTS).exists() and not job.record.master_in_client:
        yield from _kept_lines(job, workers, follow)
        return
    while True:
        current = summary(job.folder)
        ended = current is None or current.state.final
        whole = not follow or ended
        for log in _logs(job.folder, workers):
            for part in parts(log):
                yield from ((log.stem, line) for line in _new_lines(part, offsets, whole=whole))
        if whole:
            return
        time.sleep(FOLLOW_EVERY_S)


def event_lines(job: JobSummary, follow: bool) -> Iterator[bytes]:
    """Lines of the event log: one JSON document each; with ``follow``, new ones until the job has ended."""
    offsets: dict[pathlib.Path, int] = {}
    until, last = 0.0, False
    while True:
        current = summary(job.folder)
        if not until and (current is None or current.state.final):
            until = time.monotonic() + LAST_EVENT_S
        whole = not follow or 0 < until < time.monotonic()
        for part in parts(job.folder / EVENTS):
            for line in _new_lines(part, offsets, whole=whole):
                last = last or b'"event": "job_ended"' in line
                yield line
        if whole or last:
            return
        time.sleep(FOLLOW_EVERY_S)


def _logs(folder: pathlib.Path, workers: Sequence[int] | None) -> list[pathlib.Path]:
    """The workers' logs, as they are called, whatever parts are there."""
    names = (re.match(r"worker-(\d+)\.", path.name) for path in (folder / "logs").glob("worker-*.log"))
    ids = sorted({int(match[1]) for match in names if match})
    return [folder / "logs" / f"worker-{worker}.log" for worker in ids if workers is None or worker in workers]


def _new_lines(part: Part, offsets: dict[pathlib.Path, int], *, whole: bool) -> Iterator[bytes]:
    """Lines behind the offset, which moves on.

    :param whole: also a last line that has no end yet.
    """
    try:
        file = part.path.open("rb")
    except FileNotFoundError:  # removed meanwhile, as the oldest
        return
    with file:
        begin = offsets.get(part.path, 0)
        file.seek(begin)
        rest = b""
        while data := file.read(CHUNK):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if begin or not part.skip_note:
                    yield line
                begin += len(line) + 1
                offsets[part.path] = begin
        if rest and whole:
            offsets[part.path] = begin + len(rest)
            yield rest


def _kept_lines(job: JobSummary, workers: Sequence[int] | None, follow: bool) -> Iterator[tuple[str, bytes]]:
    """Logs of a detached job that only the manager has as yet."""
    wanted = None if workers is None else {f"worker-{worker}" for worker in workers}
    backend = backend_of(job)
    try:
        kept = kept_output(backend, job.record.job_handle, follow=follow)
        yield from ((name, line) for name, line in kept if wanted is None or name in wanted)
    finally:
        backend.close()


def manager_lines(job: JobSummary, workers: Sequence[int] | None, follow: bool) -> Iterator[tuple[str, bytes]]:
    """What the copies wrote outside the control channel, through the resource manager, and the master's own log as far
    as it goes now, unless only some workers' are asked for; by slot, or ``job`` for what belongs to none.
    """
    master = job.folder / "master.log"
    if master.is_file() and workers is None:
        yield from (("master", line) for line in master.read_bytes().splitlines())
    backend = backend_of(job)
    try:
        for chunk in chunks(backend, job.record.job_handle, follow=follow):
            if workers is None or chunk.slot in workers:
                name = f"slot-{chunk.slot}" if chunk.slot >= 0 else "job"
                yield from ((name, line.encode()) for line in chunk.text.splitlines())
    finally:
        backend.close()
