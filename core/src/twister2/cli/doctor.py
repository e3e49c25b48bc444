"""``twister2 doctor``: whether jobs of a profile can run, and what to do where not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twister2.cli.output import add_config_arguments, add_json_argument, one_line, print_json

if TYPE_CHECKING:
    import argparse

DEADLINE_S = 120.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add arguments."""
    parser.add_argument("profile", help="a [profile.NAME] table of the configuration, or a resource manager's name")
    parser.add_argument("--no-job", action="store_true", help="look only, do not send a job of one worker")
    parser.add_argument(
        "--deadline",
        type=float,
        default=DEADLINE_S,
        metavar="S",
        help="how long the job may wait in a queue, and its worker take to start (%(default).0f s)",
    )
    add_json_argument(parser)
    add_config_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Exit code 0 when nothing has failed, else 1; warnings do not count."""
    from twister2.client.doctor import examine

    checks = []
    found = examine(
        arguments.profile,
        files=arguments.config,
        settings=arguments.settings,
        job=not arguments.no_job,
        deadline_s=arguments.deadline,
    )
    for check in found:
        checks.append(check)
        if not arguments.json:
            print(f"{check.result:<8} {one_line(check.name)}: {one_line(check.finding)}", flush=True)
            if check.remedy and check.result in ("failed", "warning"):
                print(f"         try: {one_line(check.remedy)}", flush=True)
    if arguments.json:
        import attrs

        print_json([attrs.asdict(check) for check in checks])
    return int(any(check.result == "failed" for check in checks))
