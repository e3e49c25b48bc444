"""What a detached job's master writes to its standard output when its files go with it: the resource manager keeps it,
and every shell of the user can read it there (:mod:`twister2.client.kept`).

Lines: ``worker-3 | text`` for what a worker wrote, ``event | {...}`` for the event log, ``job | {...}`` for how the job
ended.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from twister2.control.text import output_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

WORKER, EVENT, JOB = "worker-", "event", "job"
LONGEST = 1 << 16
"""Characters that are kept until their line ends; more become a line."""


def line_of(name: str, text: str) -> str:
    """One line of the echo."""
    return f"{name} | {text}\n"


def parse(line: str) -> tuple[str, str]:
    """Name and text of a line; an empty name when it is no line of the echo."""
    name, separator, text = line.partition(" | ")
    known = name in (EVENT, JOB) or (name.startswith(WORKER) and name.removeprefix(WORKER).isdecimal())
    return (name, text) if separator and known else ("", "")


class Echo:
    """Hears what clients are told."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._begun: dict[tuple[int, str], str] = {}
        """Lines without an end yet, by worker and stream."""

    def hear(self, kind: str, body: Mapping[str, Any]) -> None:
        """Write what is worth keeping."""
        if kind == "output" and body["worker"] >= 0:
            key = body["worker"], body["stream"]
            *lines, rest = (self._begun.pop(key, "") + body["text"]).split("\n")
            if len(rest) > LONGEST:  # a progress bar, say
                lines.append(rest)
            elif rest:
                self._begun[key] = rest
            self._write("".join(line_of(f"{WORKER}{body['worker']}", line) for line in lines))
        elif kind == "event":
            self._write(line_of(EVENT, json.dumps(body)))
        elif kind == "ended":
            rests, self._begun = self._begun, {}
            self._write("".join(line_of(f"{WORKER}{worker}", rest) for (worker, _), rest in sorted(rests.items())))
            self._write(line_of(JOB, json.dumps({"state": body["state"], "error": body["error"]})))

    def _write(self, text: str) -> None:
        data = memoryview(output_bytes(text))
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:
            return  # a full disk of the manager's: the job goes on without
