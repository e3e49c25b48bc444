"""What ``sacct`` says of jobs that the controller has forgotten, whichever release of Slurm says it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import attrs

from twister2.spec.errors import ResourceError
from twister2_rm_slurm.commands import Answer
from twister2_rm_slurm.states import Row

Run = Callable[..., Answer]
MOST = 200
"""Jobs that one call asks for."""


def ask(run: Run, native_ids: Sequence[str]) -> dict[str, Row]:
    """How these jobs ended, as far as accounting knows them: one call for all; none where there is no accounting.

    :param run: calls one of Slurm's programs.
    """
    found: dict[str, Row] = {}
    for first in range(0, len(native_ids), MOST):
        jobs = ",".join(native_ids[first : first + MOST])
        with suppress(ResourceError):
            answer = run("sacct", "--json", "-X", "-j", jobs)
            rows = parse_json(answer.out) if answer.code == 0 else None
            found.update({row.native_id: row for row in rows or ()})
            # None: older than 21.08, or built without its JSON plugin; 22.05 writes 0 whatever the exit code was
            if rows is None or any(row.state == "FAILED" and row.exit_code == (0, 0) for row in rows):
                answer = run("sacct", "-X", "-n", "-P", "-j", jobs, "-o", "JobIDRaw,State,ExitCode")
                for row in parse_lines(answer.out) if answer.code == 0 else ():
                    known = found.get(row.native_id, row)  # lines have no reasons
                    found[row.native_id] = attrs.evolve(known, exit_code=row.exit_code)
    return found


def cancelled(run: Run, native_id: str) -> str:
    """The state of a cancelled job, with the number of the user who did it; empty where there is no accounting, or it
    does not have the end of the job yet.
    """
    with suppress(ResourceError):
        answer = run("sacct", "-X", "-n", "-P", "-j", native_id, "-o", "State")
        lines = answer.out.split("\n")
        return lines[0].strip() if answer.code == 0 and lines[0].startswith("CANCELLED by ") else ""
    return ""


def parse_json(text: str) -> list[Row] | None:
    """The jobs of ``sacct --json``; None when it is no such text.

    Releases differ: states are words or lists of words; numbers are plain, or ``{"set": ..., "number": ...}``.
    """
    try:
        jobs = json.loads(text)["jobs"]
        return [row for job in jobs if (row := _job(job)) is not None]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _job(job: Mapping[str, Any]) -> Row | None:
    native_id, state = _number(job.get("job_id")), job.get("state") or job.get("job_state")
    reason = ""
    if isinstance(state, Mapping):
        reason = str(state.get("reason") or "")
        state = state.get("current")
    words = [state] if isinstance(state, str) else list(state or [])
    if native_id is None or not words:
        return None
    return Row(str(native_id), str(words[0]), reason, exit_code=_exit(job.get("exit_code")))


def _exit(value: Any) -> tuple[int, int] | None:
    """Exit code and signal; plain numbers are those of ``wait``."""
    if not isinstance(value, Mapping) or "number" in value:
        number = _number(value)
        return None if number is None else (number >> 8 & 255, number & 127)
    signal = value.get("signal")
    if isinstance(signal, Mapping):
        signal = signal.get("id", signal.get("signal_id"))
    return _number(value.get("return_code")) or 0, _number(signal) or 0


def _number(value: Any) -> int | None:
    if isinstance(value, Mapping):
        value = value.get("number") if value.get("set", True) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def parse_lines(text: str) -> list[Row]:
    """The jobs of ``sacct -n -P -o JobIDRaw,State,ExitCode``."""
    rows = []
    for line in text.splitlines():
        parts = line.split("|")
        if len(parts) == 3 and parts[0].strip().isdigit():
            code = re.fullmatch(r"(\d+):(\d+)", parts[2].strip())
            exit_code = (int(code[1]), int(code[2])) if code else None
            rows.append(Row(parts[0].strip(), parts[1].strip(), exit_code=exit_code))
    return rows
