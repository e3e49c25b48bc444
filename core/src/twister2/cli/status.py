"""``twister2 status``: the state of a job, its workers, and who waits for whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twister2.cli.jobs import add_job_argument, ago, find, warn_of_logs
from twister2.cli.output import add_json_argument, one_line, print_json, print_table

if TYPE_CHECKING:
    import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    """Add arguments."""
    add_job_argument(parser)
    add_json_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Show the status; the exit code is 0 whatever the state."""
    from twister2.client.jobs import status_of

    facts = status_of(find(arguments, arguments.job))
    warn_of_logs(facts)
    if arguments.json:
        print_json(facts)
        return 0
    print(f"{facts['job']}  {facts.get('state', 'queued')}{_reason(facts)}")
    print(f"  program   {facts['program']}")
    print(f"  profile   {facts['profile']}, {_workers(facts['n_workers'])}, attempt {facts.get('attempt', 1)}")
    print(f"  started   {ago(facts['started'])}")
    if "noted" in facts:
        print(f"  noted     {ago(facts['noted'])}, by its job master, which cannot be asked from here")
    if facts.get("error"):
        from twister2.spec.errors import from_dict

        print("\n" + str(from_dict(facts["error"])))
    elif facts.get("workers"):
        print()
        headers = ("WORKER", "HOST", "PHASE", "HEARD", "MEMORY", "DOES", "WAITS FOR")
        print_table(headers, [_row(row) for row in facts["workers"]])
        for row in facts["workers"]:
            if row.get("ways"):
                print(f"\nworker {row['worker']} {one_line(row['ways'])}")
    return 0


def _workers(number: int) -> str:
    return f"{number} worker{'' if number == 1 else 's'}"


def _reason(facts: dict[str, Any]) -> str:
    return f": {one_line(facts['reason'])}" if facts.get("reason") else ""


def _row(row: dict[str, Any]) -> tuple[object, ...]:
    does = _does(row) if row["phase"] == "joined" else ""
    heard = "" if row["silent_s"] is None else f"{row['silent_s']:.1f} s ago"
    return row["worker"], row["host"], row["phase"], heard, f"{row['memory'] >> 20} MiB", does, row["waits_for"]


def _amount(number: float) -> str:
    """As people write it: ``1,234,567``, ``0.25``."""
    return f"{number:,.0f}" if float(number).is_integer() else f"{number:,.6g}"


def _does(row: dict[str, Any]) -> str:
    """What a worker does, as far as it has said so."""
    if row["step"]:
        from twister2.worker.groups import of_group

        group, step, (_, kind, shape, line) = row["step"]
        does = f"step {step}{of_group(group, row.get('group', ()))}: {kind} {shape} at {line}"
    elif row.get("latest"):
        step, kind, shape, line = row["latest"]
        does = f"runs the program, after step {step}: {kind} {shape} at {line}"
    else:
        does = "runs the program, no collective call yet"
    progress = row.get("progress") or {}
    if "done" in progress:
        total = "" if progress.get("total") is None else f" of {_amount(progress['total'])}"
        does += f"; {_amount(progress['done'])}{total} {progress.get('unit', '')}".rstrip()
    if progress.get("records"):
        does += f"; {progress['records']:,} records"
    return does
