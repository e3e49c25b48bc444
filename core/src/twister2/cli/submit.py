"""``twister2 submit``: run a program on N workers."""

from __future__ import annotations

import argparse
import pathlib
import sys
from functools import partial
from typing import TYPE_CHECKING

from twister2.cli.output import add_config_arguments, add_json_argument, print_json

if TYPE_CHECKING:
    from twister2.client.session import Outcome, Session


def configure(parser: argparse.ArgumentParser) -> None:
    """Add arguments."""
    parser.usage = "twister2 submit PROFILE [options] PROGRAM.py[:FUNCTION] [program arguments]"
    parser.add_argument(
        "profile", type=_profile, help="a [profile.NAME] table of the configuration, or a resource manager's name"
    )
    parser.add_argument("-n", "--workers", type=int, metavar="N", help="number of workers (job.workers)")
    parser.add_argument("--name", help="name of the job (job.name)")
    parser.add_argument("--detach", action="store_true", help="print the job's id and leave; the job goes on")
    add_json_argument(parser)
    parser.add_argument("--dry-run", action="store_true", help="print what would be submitted, submit nothing")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress, only what the workers write")
    add_config_arguments(parser)
    parser.add_argument("program", help="the program; its function is 'main' unless named")
    args = parser.add_argument("args", nargs=argparse.REMAINDER, help="the program's arguments (env.args)")
    args.required = False  # in messages argparse would say that it is


def _profile(text: str) -> str:
    """The first argument; a program there means that the profile was forgotten.

    :raises argparse.ArgumentTypeError: it was.
    """
    if text.partition(":")[0].endswith(".py"):
        raise argparse.ArgumentTypeError(
            f"{text} is a program, and the profile that says where to run it is missing; "
            f"for this machine: twister2 submit standalone {text}"
        )
    return text


def run(arguments: argparse.Namespace) -> int:
    """Submit, and follow the job unless detached."""
    if arguments.json and (arguments.dry_run or not arguments.detach):
        from twister2.spec.errors import UsageError

        raise UsageError(
            "--json is for --detach" + (", not for --dry-run" if arguments.dry_run else ""),
            why="what the workers of a job write is printed as it is, so that there is no JSON to read",
            remedy="give --detach, too, and ask with 'twister2 wait JOB --json'; or leave --json out",
        )
    from twister2.client.collecting import collecting_nothing
    from twister2.client.interrupts import remembered

    with remembered():
        with collecting_nothing():
            session = _submitted(arguments)
        return 0 if session is None else _followed(session, arguments)


def _submitted(arguments: argparse.Namespace) -> Session | None:
    """The session of the job; None for one that was only to be shown."""
    from twister2.client.configure import configure as resolve_all
    from twister2.config.tree import given

    submission = resolve_all(
        pathlib.Path(arguments.program.partition(":")[0]).stem,
        arguments.profile,
        files=arguments.config,
        settings=arguments.settings,
        overrides={"job": {"workers": given(arguments.workers, "-n"), "name": given(arguments.name, "--name")}},
        warm_up=not arguments.dry_run,
    )

    # only now: the resource manager may be warming up by this time
    from twister2.client.packing import from_file
    from twister2.client.prepare import prepare
    from twister2.client.start import observers_of, print_output, start

    find = partial(from_file, arguments.program)
    prepared = prepare(submission, find, arguments.args, want_results=False, detached=arguments.detach)
    if arguments.dry_run:
        print(prepared.backend.render(prepared.allocation))
        return None
    observers = [] if arguments.quiet or arguments.detach else observers_of(prepared, command=True)
    return start(prepared, _only_workers if arguments.quiet else print_output, observers, command=True)


def _followed(session: Session, arguments: argparse.Namespace) -> int:
    """The exit code of the job, or of having left it."""
    if arguments.detach:
        session.leave()
        if arguments.json:
            print_json({"job": session.job_id})
        else:
            print(session.job_id)
        return 0
    outcome = session.follow()
    if arguments.quiet and outcome.incomplete:  # else it was said when it happened
        print(f"warning: {outcome.incomplete}", file=sys.stderr)
    return _outcome(outcome)


def _only_workers(worker: int, stream: str, text: str) -> None:
    """What workers write, and nothing of what the client has to say."""
    from twister2.client.start import print_output

    if worker >= 0:
        print_output(worker, stream, text)


def _outcome(outcome: Outcome) -> int:
    from twister2.spec.rm import JobState

    if outcome.state is JobState.COMPLETED:
        return 0
    if outcome.error is not None:
        raise outcome.error
    return 1
