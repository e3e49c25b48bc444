"""``twister2 wait``: wait for the end of a job."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from twister2.cli.jobs import add_job_argument, find, warn_of_logs
from twister2.cli.output import add_json_argument, one_line, print_json

if TYPE_CHECKING:
    import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    """Add arguments."""
    add_job_argument(parser)
    parser.add_argument("--timeout", type=float, metavar="S", help="give up after S seconds")
    add_json_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Exit code 0 when the job completed, 1 when it failed, 5 when it was killed, 124 when it had not ended in time."""
    from twister2.cli.main import EXIT_TIMEOUT, exit_code
    from twister2.client.jobs import wait_for
    from twister2.spec.errors import DeadlineError, MasterLostError, UsageError, from_dict

    if arguments.timeout is not None and not arguments.timeout >= 0:
        raise UsageError(
            f"--timeout {arguments.timeout:g} is no time to wait",
            why="it is a number of seconds, zero or more",
            remedy="give seconds; leave it out to wait for the end",
        )
    job = find(arguments, arguments.job)
    try:
        facts = wait_for(job, arguments.timeout)
    except DeadlineError as late:
        print(late, file=sys.stderr)
        return EXIT_TIMEOUT
    warn_of_logs(facts)
    if arguments.json:
        print_json(facts)
    else:
        print(f"{facts['job']}  {facts['state']}{': ' + one_line(facts['reason']) if facts.get('reason') else ''}")
    if facts.get("error"):
        error = from_dict(facts["error"])
        if isinstance(error, MasterLostError):  # nobody else has said it
            print(error, file=sys.stderr)
        return exit_code(error)
    return 0
