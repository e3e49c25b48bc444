"""What the subcommands about existing jobs share: finding them, and their arguments."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from twister2.client.records import JobSummary, all_jobs, find_job
from twister2.client.runtime import sweep
from twister2.control.folders import state_folder
from twister2.spec.errors import JobNotFoundError, UsageError

if TYPE_CHECKING:
    import argparse
    import pathlib
    from collections.abc import Iterator, Mapping, Sequence

    from twister2.spec.errors import Twister2Error


def add_state_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--state-dir``."""
    parser.add_argument("--state-dir", default="", help="the state folder (job.state_dir) when no profile names it")


def add_job_argument(parser: argparse.ArgumentParser, **options: Any) -> None:
    """Add the job argument and ``--state-dir``."""
    parser.add_argument("job", help="id, the beginning of an id, a name, or 'last'", **options)
    add_state_argument(parser)


def folders(arguments: argparse.Namespace) -> list[pathlib.Path]:
    """State folders: the given one, or the configured or usual one and those of all profiles."""
    if arguments.state_dir:
        return [state_folder(arguments.state_dir)]
    from twister2.config.resolve import resolve_state_dirs
    from twister2.host import PluginHost

    found, errors = [], []
    for configured in resolve_state_dirs(host=PluginHost()):
        try:
            found.append(state_folder(configured))
        except UsageError as error:  # of a profile of somebody else's: its own jobs cannot be there
            errors.append(error)
    if not found:
        raise errors[0]
    return list(dict.fromkeys(found))


def find(arguments: argparse.Namespace, text: str) -> JobSummary:
    """The job the user means."""
    sweep()
    return find_job(folders(arguments), text)


def find_each(arguments: argparse.Namespace, texts: Sequence[str], errors: list[Twister2Error]) -> Iterator[JobSummary]:
    """The jobs the user means; what says that there is none goes to ``errors``."""
    for text in texts:
        try:
            yield find(arguments, text)
        except JobNotFoundError as error:
            errors.append(error)


def raise_all(errors: Sequence[Twister2Error]) -> None:
    """Raise the first of them, if there are any, and print the others."""
    for more in errors[1:]:
        print(more, file=sys.stderr)
    if errors:
        raise errors[0]


def everything(arguments: argparse.Namespace) -> list[JobSummary]:
    """All jobs, oldest first."""
    sweep()
    return all_jobs(folders(arguments))


def warn_of_logs(facts: Mapping[str, Any]) -> None:
    """Say on stderr what of a job's logs could not be written."""
    if facts.get("incomplete"):
        print(f"warning: {facts['incomplete']}", file=sys.stderr)


def ago(seconds: float) -> str:
    """A point in time, as people say it."""
    past = max(0, int(time.time() - seconds))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if past >= size:
            return f"{past // size} {unit} ago"
    return f"{past} s ago"
