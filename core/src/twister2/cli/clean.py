"""``twister2 clean``: remove records and logs of ended jobs."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from twister2.cli.jobs import add_state_argument, everything, find_each, folders, raise_all
from twister2.cli.output import add_json_argument, print_json

if TYPE_CHECKING:
    import argparse
    import pathlib
    from collections.abc import Sequence


def configure(parser: argparse.ArgumentParser) -> None:
    """Add arguments."""
    parser.add_argument("jobs", nargs="*", metavar="JOB", help="jobs to clean; none: see --all and --older-than")
    parser.add_argument("--all", action="store_true", help="all jobs that have ended, and saved tracebacks")
    parser.add_argument("--older-than", type=float, metavar="DAYS", help="jobs that ended more than DAYS days ago")
    add_state_argument(parser)
    add_json_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Remove them; a job that has not ended is an error when it is named, and left alone otherwise. One that cannot be
    removed does not stop the others.
    """
    from twister2.client.jobs import clean, status_of
    from twister2.client.records import unreadable
    from twister2.spec.errors import ResourceError, Twister2Error, UsageError

    if arguments.older_than is not None and not arguments.older_than >= 0:
        raise UsageError(
            f"--older-than {arguments.older_than:g} is no age",
            why="no job has ended in the future; all of them would be removed",
            remedy="give a number of days from 0 on; --all is for all jobs that have ended",
        )
    errors: list[Twister2Error] = []
    chosen = [*find_each(arguments, arguments.jobs, errors)]
    if arguments.all or arguments.older_than is not None:
        limit = time.time() - (arguments.older_than or 0) * 86400
        chosen += [job for job in everything(arguments) if status_of(job).get("ended", limit + 1) <= limit]
    elif not arguments.jobs:
        raise UsageError(
            "nothing to clean was named", why="clean removes records for good", remedy="name jobs, or --all"
        )
    chosen = list({job.folder: job for job in chosen}.values())
    cleaned = []
    for job in chosen:
        try:
            clean(job)
            cleaned.append(job.record.job_id)
        except Twister2Error as error:
            errors.append(error)
        except OSError as error:
            what = f"the folder of job {job.record.job_id} cannot be removed"
            errors.append(ResourceError(what, why=str(error), remedy=f"remove {job.folder} by hand"))
    if arguments.all or arguments.older_than is not None:
        for path in unreadable(folders(arguments)):
            print(f"left alone: {path}, whose record cannot be read", file=sys.stderr)
    begun, tracebacks = _clean_rest(folders(arguments)) if arguments.all else (0, 0)
    if arguments.json:
        print_json({"cleaned": cleaned, "broken_off": begun, "tracebacks": tracebacks})
    else:
        _say(len(cleaned), "job", "cleaned")
        if begun:
            _say(begun, "submission", "removed that had been broken off")
        if tracebacks:
            _say(tracebacks, "saved traceback", "removed")
    raise_all(errors)
    return 0


def _say(number: int, what: str, done: str) -> None:
    print(f"{number} {what}{'s' if number != 1 else ''} {done}")


def _clean_rest(states: Sequence[pathlib.Path]) -> tuple[int, int]:
    """Remove what is no job: submissions that were broken off, and saved tracebacks; how many there were of each."""
    from twister2.client.records import broken_off
    from twister2.master.abandoned import remove_begun

    begun = broken_off(states)
    for path in begun:
        remove_begun(path)
    return len(begun), _remove_tracebacks()


def _remove_tracebacks() -> int:
    """Remove what this user's commands have saved of mistakes of their own (exit code 70); how many there were."""
    import contextlib
    import os
    import pathlib
    import tempfile

    from twister2.cli.main import TRACEBACK

    removed = 0
    try:
        temporary = pathlib.Path(tempfile.gettempdir())
    except FileNotFoundError:  # no folder can be written: none has been
        return removed
    for path in temporary.glob(f"{TRACEBACK[0]}*{TRACEBACK[1]}"):
        with contextlib.suppress(OSError):
            if path.lstat().st_uid == os.getuid():
                path.unlink()
                removed += 1
    return removed
