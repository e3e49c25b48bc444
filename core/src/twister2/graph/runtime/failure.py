"""From an exception of user code to an error that says whose function failed, on which record."""

from __future__ import annotations

import itertools
from typing import Any

import attrs

from twister2.graph.records import Place, place_of, shorten
from twister2.spec.batch import Batch, records
from twister2.spec.errors import StepAbortedError, Twister2Error, UserCodeError
from twister2.spec.tracebacks import user_line, user_traceback
from twister2.spec.user_code import why_and_remedy

DEBUGGING = "-o rm.standalone.workers_as=threads -o job.comm=inproc -o job.exec=inline"
"""What a debugger needs: workers that are processes read nothing from a terminal."""


@attrs.define
class TaskPlace:
    """Where a task is: for error texts. :ivar step: of the run."""

    vertex: str
    index: int
    parallelism: int
    worker_id: int
    step: int


def task_failure(
    error: Exception | SystemExit, task: TaskPlace, doing: str, *, batch: Batch = None, before: int = 0, edge: str = ""
) -> Twister2Error:
    """The error to raise for what a task raised; ``error`` itself, with the place added, when it is one of ours.

    :param doing: the method that raised, e.g. ``"process"``.
    :param batch: the batch it was called with, None for none. :param before: records the task had handled before.
    """
    place = place_of(error) or Place()
    vertex, doing = place.vertex or task.vertex, place.doing or doing
    where = f"vertex {vertex!r}, task {task.index} of {task.parallelism}, worker {task.worker_id}"
    details: dict[str, Any] = {
        "vertex": vertex,
        "operator": vertex,
        "task": task.index,
        "partition": task.index,
        "parallelism": task.parallelism,
        "worker": task.worker_id,
        "step": task.step,
    }
    if isinstance(error, StepAbortedError):
        return error
    if isinstance(error, Twister2Error):
        known = _record(place, before, None)
        parts = [error.where, known.get("at", ""), where]
        error.where = ", ".join(part for part in parts if part)
        error.details = {**details, **known, **error.details}
        return error
    record = _record(place, before, batch)
    line = user_line(error)
    details |= {"edge": edge, "method": doing, "type": type(error).__qualname__, **record}
    details["traceback"] = user_traceback(error)
    said = (
        f"sys.exit({error.code!r})"
        if isinstance(error, SystemExit)
        else f"{type(error).__name__}: {error}".rstrip(": ")
    )
    which = f" at {record['at']}" if "at" in record else ""
    why = f"its {doing}() raised {type(error).__name__}" + (f" in {line}" if line else "")
    remedy = f"see the traceback; for breakpoint() submit with {DEBUGGING} (or as settings of twister2.run)"
    why, remedy = why_and_remedy(error, why, remedy)
    return UserCodeError(
        f"{vertex!r} failed{which}: {said}",
        why=why,
        remedy=remedy,
        where=where,
        details=details,
    )


def _record(place: Place, before: int, batch: Batch) -> dict[str, Any]:
    if place.index >= 0:
        number = (place.before if place.before >= 0 else before) + place.index + 1
        return {"record": number, "record_value": place.record, "at": f"record {number:,} ({place.record})"}
    if batch is None or place.vertex:
        return {}
    try:
        first = [shorten(record, 80) for record in itertools.islice(iter(records(batch)), 3)]
    except Exception:
        return {}  # what came is no batch: the error itself says so
    return {
        "batch_begins_at": before + 1,
        "first_records": first,
        "at": f"the batch that begins at record {before + 1:,} ({', '.join(first)}...)",
    }
