"""``twister2 logs``: what a job's workers wrote."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from twister2.cli.jobs import add_job_argument, find, warn_of_logs

if TYPE_CHECKING:
    import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    """Add arguments."""
    add_job_argument(parser)
    parser.add_argument("-w", "--worker", type=int, action="append", help="only this worker; repeatable")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the job has ended")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--events", action="store_true", help="the event log (JSON lines) instead")
    what.add_argument("--manager", action="store_true", help="what master and supervisors wrote themselves instead")


def run(arguments: argparse.Namespace) -> int:
    """Print logs, each line with the worker's number unless only one is asked for."""
    from twister2.client.jobs import master_gone
    from twister2.client.logs import event_lines, log_lines, manager_lines
    from twister2.client.records import read_state
    from twister2.spec.errors import MasterLostError, UsageError, from_dict
    from twister2.spec.rm import JobState

    job = find(arguments, arguments.job)
    if arguments.events:
        if arguments.worker:
            raise UsageError(
                "--events takes no --worker",
                why="the event log is that of the whole job; its lines say which worker they are about",
                remedy="leave one of them out",
            )
        for line in event_lines(job, arguments.follow):
            _write(line)
        return 0
    ids = range(job.record.n_workers)
    for worker in arguments.worker or ():
        if worker not in ids:
            raise UsageError(
                f"job {job.record.job_id} has no worker {worker}",
                why=f"its workers are {', '.join(map(str, ids)) if len(ids) < 6 else f'0 to {ids[-1]}'}",
                remedy="see 'twister2 status' for what each of them does",
            )
    read = manager_lines if arguments.manager else log_lines
    lines = read(job, arguments.worker, arguments.follow)
    alone = arguments.worker is not None and len(arguments.worker) == 1 and not arguments.manager
    for name, line in lines:
        _write(line if alone else f"{name} | ".encode() + line)
    facts = read_state(job.folder)
    warn_of_logs(facts)
    if not JobState(facts.get("state", "queued")).final and (gone := master_gone(job)):
        print(f"warning: {gone}; what its workers wrote since is lost, see 'twister2 status'", file=sys.stderr)
    elif facts.get("error") and isinstance(error := from_dict(facts["error"]), MasterLostError):
        print(error, file=sys.stderr)
    return 0


def _write(line: bytes) -> None:
    """The very bytes that the program wrote, whatever the terminal makes of them."""
    if hasattr(sys.stdout, "buffer"):
        sys.stdout.buffer.write(line + b"\n")
    else:
        sys.stdout.write(line.decode(errors="replace") + "\n")
    sys.stdout.flush()
