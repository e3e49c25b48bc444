"""The contestants' side: settings in, times and one answer out.

Kept free of costly imports (argparse, json, pathlib), because its own price is part of every start-up figure.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

MARK = "BENCHMARK "
"""What the one result line on standard output begins with (a launcher may put a prefix of its own before it)."""

T = TypeVar("T")


class Contest:
    """One run of one contestant.

    ``arguments`` are the ``key=value`` words that ``run.py`` gives every contestant: ``size`` (``full`` or ``small``),
    ``workers`` (how many processes compute), ``data`` (the folder of the inputs), ``output`` (an empty folder for what
    the job writes) and ``spawned`` (when the runner started the command, in seconds of the system-wide monotonic
    clock). Of several ranks one is the ``reporter``.
    """

    def __init__(self, arguments: Sequence[str] | None = None, *, reporter: bool = True) -> None:
        settings = dict(word.split("=", 1) for word in (sys.argv[1:] if arguments is None else arguments))
        self.size = settings["size"]
        self.workers = int(settings["workers"])
        self.output = settings["output"]
        self._data = settings["data"]
        self._spawned = float(settings["spawned"])
        self._reporter = reporter
        self._ready_s = 0.0
        self._job_s = 0.0

    def input(self, stem: str, suffix: str) -> str:
        """The path of an input of this size, such as ``words-full.txt``."""
        return os.path.join(self._data, f"{stem}-{self.size}{suffix}")

    def run(self, job: Callable[[], T]) -> T:
        """Time ``job``; to be called once the system can take work. Reading the inputs belongs into the job."""
        begin = time.monotonic()
        self._ready_s = begin - self._spawned
        answer = job()
        self._job_s = time.monotonic() - begin
        return answer

    def report(self, answer: object) -> None:
        """Print the result line, on the reporter only; ``answer`` is plain JSON data, and is checked by the runner."""
        if not self._reporter:
            return
        import json

        line = {"ready_s": self._ready_s, "job_s": self._job_s, "answer": answer}
        print(MARK + json.dumps(line), flush=True)
