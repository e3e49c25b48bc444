"""``twister2 restart``: begin the program of a job again, from its latest commit."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from twister2.cli.jobs import add_job_argument, find
from twister2.cli.output import one_line

if TYPE_CHECKING:
    import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    """Add arguments."""
    add_job_argument(parser)
    parser.add_argument("--no-wait", action="store_true", help="ask, and do not wait for the next attempt")


def run(arguments: argparse.Namespace) -> int:
    """Say from where it begins again, and wait until it does."""
    from twister2.client.changes import follow, restart

    job = find(arguments, arguments.job)
    answer = restart(job)
    print(f"{job.record.job_id}  begins again from {answer['from']}", flush=True)
    if not arguments.no_wait:
        status = follow(job, answer["number"], lambda text: print(f"waits for {one_line(text)}", file=sys.stderr))
        print(f"{job.record.job_id}  {status['state']}, attempt {status['attempt']}")
    return 0
