"""A trivial job on a resource manager, from the shell and back to it, in turns with the least that the manager itself
can be asked for.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from harness.contest import Contest

TURNS = {"full": 3, "small": 1}
PROGRAM = os.path.join(os.path.dirname(os.path.dirname(__file__)), "first_instruction.py")
MARK = "FIRST"
"""What the program's first instruction prints, with the time, for each worker."""
LIMIT_S = 60


def output(command: Sequence[str]) -> str:
    """What a command writes.

    :raises RuntimeError: it failed.
    """
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()[-500:]}")
    return done.stdout


def why_down(command: Sequence[str]) -> str:
    """Why a manager cannot be asked, as a command tells that looks; empty when it can."""
    try:
        output(command)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        return str(error) or type(error).__name__
    return ""


def submitted(profile: str, workers: int, options: Sequence[str]) -> tuple[float, float]:
    """Seconds from the start of ``twister2 submit`` to the first instruction of the last worker, and to its end."""
    settings = [word for option in (f"job.workers={workers}", *options) for word in ("-o", option)]
    begin = time.time()
    said = output([os.path.join(os.path.dirname(sys.executable), "twister2"), "submit", profile, *settings, PROGRAM])
    end = time.time()
    firsts = [float(line.split()[1]) for line in said.splitlines() if line.startswith(MARK)]
    if len(firsts) != workers:
        raise RuntimeError(f"{len(firsts)} of {workers} workers have said something: {said[-500:]}")
    return max(firsts) - begin, end - begin


def main(
    profile: str,
    bare: Callable[[int], object],
    down: Callable[[], str],
    *,
    options: Callable[[], Sequence[str]] = tuple,
    masters: Sequence[str] = ("client", "allocation"),
) -> None:
    """
    :param bare: asks the manager itself for the least, for so many workers, and returns when it has ended.
    :param down: why the manager cannot be measured here; empty when it can. It is skipped then.
    """
    contest = Contest()
    why = down()
    if why:
        contest.report(contest.run(lambda: {"right": True, "skipped": " ".join(why.split())[:200]}))
        return

    def job() -> dict[str, object]:
        more = options()
        least: list[float] = []
        kept: dict[str, list[float]] = {}
        for turn in range(TURNS[contest.size] + 1):
            begin = time.time()
            bare(contest.workers)
            spent = time.time() - begin
            found = {}
            for master in masters:
                first, all_ = submitted(profile, contest.workers, (f"job.master={master}", *more))
                found[f"master in the {master}, first instruction"] = first
                found[f"master in the {master}, back at the shell"] = all_
            if turn:  # the first one warms up
                least.append(spent)
                for case, seconds in found.items():
                    kept.setdefault(case, []).append(seconds)
        middle = statistics.median(least)
        return {"right": True, "pairs": {case: [statistics.median(each), middle] for case, each in kept.items()}}

    contest.report(contest.run(job))
