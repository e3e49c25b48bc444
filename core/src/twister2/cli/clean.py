"""``twister2 clean``: remove records and logs of ended jobs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from twister2.cli.jobs import add_state_argument, everything, find

if TYPE_CHECKING:
    import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    """Add arguments."""
    parser.add_argument("jobs", nargs="*", metavar="JOB", help="jobs to clean; none: see --all and --older-than")
    parser.add_argument("--all", action="store_true", help="all jobs that have ended")
    parser.add_argument("--older-than", type=float, metavar="DAYS", help="jobs that ended more than DAYS days ago")
    add_state_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Remove them; a job that has not ended is an error when it is named, and left alone otherwise."""
    from twister2.client.jobs import clean, status_of
    from twister2.spec.errors import UsageError

    chosen = [find(arguments, text) for text in arguments.jobs]
    if arguments.all or arguments.older_than is not None:
        limit = time.time() - (arguments.older_than or 0) * 86400
        chosen += [job for job in everything(arguments) if status_of(job).get("ended", limit + 1) <= limit]
    elif not chosen:
        raise UsageError(
            "nothing to clean was named", why="clean removes records for good", remedy="name jobs, or --all"
        )
    for job in chosen:
        clean(job)
    print(f"{len(chosen)} job{'s' if len(chosen) != 1 else ''} cleaned")
    return 0
