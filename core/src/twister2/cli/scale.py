"""``twister2 scale``: another number of workers for a job that runs."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from twister2.cli.jobs import add_job_argument, find
from twister2.cli.output import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

DEADLINE_S = 600.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add arguments."""
    parser.usage = "twister2 scale JOB N | GROUP=N... [options]"
    add_job_argument(parser)
    parser.add_argument(
        "sizes", nargs="+", metavar="N", type=_size, help="number of workers; GROUP=N for one of several groups"
    )
    parser.add_argument(
        "--now", action="store_true", help="go on from the latest commit, do not wait for the program's next one"
    )
    parser.add_argument(
        "--deadline",
        type=float,
        default=DEADLINE_S,
        metavar="S",
        help="how long workers and commit may be waited for; then the job goes on as it was (%(default).0f s)",
    )
    parser.add_argument("--no-wait", action="store_true", help="ask, and do not wait for it")


def _size(text: str) -> tuple[str, int]:
    """``N`` or ``GROUP=N``.

    :raises argparse.ArgumentTypeError: it is neither.
    """
    name, _, number = text.rpartition("=")
    if not number.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of workers, nor GROUP=N")
    return name, int(number)


def run(arguments: argparse.Namespace) -> int:
    """Ask for it, and show what is waited for until the next attempt runs."""
    from twister2.client.changes import follow, scale

    targets = _targets(arguments.sizes)
    job = find(arguments, arguments.job)
    answer = scale(job, targets, now=arguments.now, deadline_s=arguments.deadline)
    if not answer["number"]:
        print(f"{job.record.job_id}  has {answer['n_workers']} workers already")
        return 0
    if arguments.no_wait:
        print(f"{job.record.job_id}  asked for {answer['n_workers']} workers")
        return 0
    status = follow(job, answer["number"], lambda text: print(f"waits for {one_line(text)}", file=sys.stderr))
    print(f"{job.record.job_id}  has {status['n_workers']} workers, attempt {status['attempt']}")
    return 0


def _targets(sizes: Sequence[tuple[str, int]]) -> dict[str, int]:
    """Sizes by group.

    :raises UsageError: one is given twice, or for one group and for all.
    """
    from twister2.spec.errors import UsageError

    targets = dict(sizes)
    if len(targets) < len(sizes) or ("" in targets and len(sizes) > 1):
        raise UsageError(
            "the sizes contradict each other",
            why=f"given are: {', '.join(f'{name}={count}' if name else str(count) for name, count in sizes)}",
            remedy="give one number, or GROUP=N once for each group that changes",
        )
    return targets
