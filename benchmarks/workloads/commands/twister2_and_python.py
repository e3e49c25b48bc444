"""Twister2's commands without a job, and the bare interpreter (`python -c pass`), in turns."""

# benchmark: venv=twister2 packages=twister2-core
from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

from harness.contest import Contest

TURNS = {"full": 15, "small": 3}
HERE = os.path.dirname(sys.executable)
COMMANDS = {
    "import twister2": ([sys.executable, "-c", "import twister2; print(twister2.__name__)"], "twister2"),
    "twister2 --help": ([os.path.join(HERE, "twister2"), "--help"], "submit"),
    "twister2 version": ([os.path.join(HERE, "twister2"), "version"], "0."),
}
BARE = [sys.executable, "-c", "pass"]


def timed(command: list[str], wanted: str) -> tuple[float, bool]:
    """Seconds of a command, and whether it said what it should."""
    begin = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return time.perf_counter() - begin, done.returncode == 0 and wanted in done.stdout


def job(turns: int) -> dict[str, object]:
    pairs, right = {}, True
    for name, (command, wanted) in COMMANDS.items():
        spent: tuple[list[float], list[float]] = ([], [])
        for turn in range(turns + 1):
            for words, text, kept in ((command, wanted, spent[0]), (BARE, "", spent[1])):
                seconds, good = timed(words, text)
                right = right and good
                if turn:  # the first one warms up
                    kept.append(seconds)
        pairs[name] = [statistics.median(kept) for kept in spent]
    return {"right": right, "pairs": pairs}


if __name__ == "__main__":
    contest = Contest()
    contest.report(contest.run(lambda: job(TURNS[contest.size])))
