"""``twister2 kill``: end jobs, from any shell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twister2.cli.jobs import add_state_argument, find

if TYPE_CHECKING:
    import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    """Add arguments."""
    parser.add_argument("jobs", nargs="+", metavar="JOB", help="id, the beginning of an id, a name, or 'last'")
    add_state_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Every process of the job is gone when it returns; a job that had ended already is no error."""
    from twister2.client.jobs import kill

    for job in [find(arguments, text) for text in arguments.jobs]:
        killed = kill(job)
        print(f"{job.record.job_id}  {'killed' if killed else f'had ended already ({job.state.value})'}")
    return 0
