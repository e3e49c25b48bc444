"""``twister2 list``: your jobs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from twister2.cli.jobs import add_state_argument, ago, everything, folders
from twister2.cli.output import add_json_argument, cut, one_line, print_json, print_table

if TYPE_CHECKING:
    import argparse


def said(row: dict[str, Any]) -> str:
    """Why a job is in its state; how old that is where its master cannot be asked."""
    old = f"noted {ago(row['noted'])}" if "noted" in row else ""
    return "; ".join(filter(None, (str(row["reason"]), old)))


def configure(parser: argparse.ArgumentParser) -> None:
    """Add arguments."""
    parser.add_argument("--active", action="store_true", help="only jobs that have not ended")
    add_state_argument(parser)
    add_json_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """List jobs, oldest first. Asks the master or the manager about those that have not ended."""
    from twister2.client.jobs import statuses_of
    from twister2.client.records import broken_off

    rows = []
    for facts in statuses_of(everything(arguments)):
        ended = "ended" in facts
        if not (arguments.active and ended):
            rows.append({**facts, "state": facts.get("state", "queued"), "reason": facts.get("reason", "")})
    if arguments.json:
        keys = ("job", "name", "state", "reason", "n_workers", "profile", "program", "started", "ended")
        print_json([{key: row.get(key) for key in keys} for row in rows])
        return 0
    for path in broken_off(folders(arguments)):
        print(f"no job: {path}, whose submission was broken off; 'twister2 clean --all' removes it", file=sys.stderr)
    print_table(
        ("JOB", "STATE", "WORKERS", "PROFILE", "STARTED", "REASON"),
        [
            (
                row["job"],
                row["state"],
                row["n_workers"],
                row["profile"],
                ago(row["started"]),
                cut(one_line(said(row)), 60),
            )
            for row in rows
        ],
        empty="no jobs",
    )
    return 0
