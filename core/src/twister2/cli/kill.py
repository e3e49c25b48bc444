"""``twister2 kill``: end jobs, from any shell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twister2.cli.jobs import add_state_argument, find_each, raise_all
from twister2.cli.output import add_json_argument, one_line, print_json

if TYPE_CHECKING:
    import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    """Add arguments."""
    parser.add_argument("jobs", nargs="+", metavar="JOB", help="id, the beginning of an id, a name, or 'last'")
    add_state_argument(parser)
    add_json_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Every process of the jobs is gone when it returns; a job that had ended already is no error. One that is unknown,
    or cannot be ended, does not stop the others.
    """
    from twister2.client.jobs import kill
    from twister2.client.records import read_state
    from twister2.spec.errors import Twister2Error

    errors: list[Twister2Error] = []
    ended: list[dict[str, object]] = []
    for job in [*find_each(arguments, arguments.jobs, errors)]:
        try:
            killed = kill(job)
        except Twister2Error as error:
            errors.append(error)
            continue
        facts = read_state(job.folder)
        state = "killed" if killed else facts.get("state", job.state.value)
        ended.append({"job": job.record.job_id, "killed": killed, "state": state})
        if not arguments.json:
            how = f"{state}: {one_line(facts['reason'])}" if facts.get("reason") else state
            print(f"{job.record.job_id}  {'killed' if killed else f'had ended already ({how})'}")
    if arguments.json:
        print_json(ended)
    raise_all(errors)
    return 0
