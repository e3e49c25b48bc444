"""``twister2 submit``: run a program on N workers."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from twister2.cli.output import add_config_arguments


def configure(parser: argparse.ArgumentParser) -> None:
    """Add arguments."""
    parser.usage = "twister2 submit PROFILE [options] PROGRAM.py[:FUNCTION] [program arguments]"
    parser.add_argument("profile", help="a [profile.NAME] table of the configuration, or a resource manager's name")
    parser.add_argument("-n", "--workers", type=int, metavar="N", help="number of workers (job.workers)")
    parser.add_argument("--name", help="name of the job (job.name)")
    parser.add_argument("--detach", action="store_true", help="print the job's id and leave; the job goes on")
    parser.add_argument("--dry-run", action="store_true", help="print what would be submitted, submit nothing")
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress, only what the workers write")
    add_config_arguments(parser)
    parser.add_argument("program", help="the program; its function is 'main' unless named")
    parser.add_argument("args", nargs=argparse.REMAINDER, help="the program's arguments (env.args)")


def run(arguments: argparse.Namespace) -> int:
    """Submit, and follow the job unless detached."""
    from twister2.client.packing import from_file
    from twister2.client.prepare import configure as resolve_all
    from twister2.client.run import print_output
    from twister2.client.session import Session
    from twister2.host import ObserverSet

    job: dict[str, Any] = {}
    if arguments.workers is not None:
        job["workers"] = arguments.workers
    if arguments.name is not None:
        job["name"] = arguments.name
    host, resolved = resolve_all(
        arguments.profile, files=arguments.config, settings=arguments.settings, overrides={"job": job}
    )
    for warning in resolved.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    program = from_file(arguments.program)
    prepared = _prepare(program, arguments, host, resolved)
    if arguments.dry_run:
        print(prepared.backend.render(prepared.allocation))
        return 0
    chosen = [] if arguments.quiet or arguments.detach else _observers(host, resolved)
    observers = ObserverSet.load(host, chosen, "client", lambda text: print(f"warning: {text}", file=sys.stderr))
    for note in prepared.match.notes:
        print(f"note: {note}", file=sys.stderr)
    session = Session(prepared, print_output, observers)
    session.start()
    if arguments.detach:
        session.leave()
        print(session.job_id)
        return 0
    return _outcome(session)


def _prepare(program: Any, arguments: argparse.Namespace, host: Any, resolved: Any) -> Any:
    from twister2.client.prepare import prepare

    return prepare(program, arguments.args, host, resolved, want_results=False, detached=arguments.detach)


def _observers(host: Any, resolved: Any) -> list[tuple[str, Any]]:
    """The configured observers; without any, the progress display if it is installed."""
    names = list(resolved.job.observe)
    if not names and any(record.name == "progress" for record in host.discover("observe")):
        names = ["progress"]
    return [(name, resolved.plugin("observe", name)) for name in names]


def _outcome(session: Any) -> int:
    from twister2.spec.rm import JobState

    outcome = session.follow()
    if outcome.state is JobState.COMPLETED:
        return 0
    if outcome.error is not None:
        raise outcome.error
    return 1
