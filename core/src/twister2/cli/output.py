"""What subcommands print: tables for people, JSON for programs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


def print_json(data: Any) -> None:
    """Print JSON with sorted keys, one document."""
    import json

    json.dump(data, sys.stdout, indent=2, sort_keys=True, default=str)
    sys.stdout.write("\n")


def print_table(headers: Sequence[str], rows: Sequence[Sequence[object]], empty: str = "none") -> None:
    """Print columns as wide as their longest cell; ``empty`` when there are no rows."""
    if not rows:
        print(empty)
        return
    cells = [list(headers), *([one_line(str(cell)) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def one_line(text: str) -> str:
    """Text of any origin as one line that a terminal may be given."""
    from twister2.spec.errors import printable

    lines = printable(text).splitlines()
    return " ".join(line.strip() for line in lines if line.strip()) if len(lines) > 1 else "".join(lines)


def cut(text: str, limit: int) -> str:
    """The first words of a line of more than ``limit`` characters, with ``...`` behind them; only on a terminal: what
    goes into a pipe is whole.
    """
    if len(text) <= limit or sys.stdout is None or not sys.stdout.isatty():
        return text
    return text[: limit - 3].rsplit(" ", 1)[0] + "..."


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--config`` and ``-o``, which every command that reads the configuration has."""
    parser.add_argument(
        "--config",
        action="append",
        metavar="FILE",
        help="read this TOML file in place of the nearest twister2.toml; repeatable, later ones win",
    )
    parser.add_argument(
        "-o",
        "--option",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set one option, e.g. job.workers=4; repeatable (twister2 plugins show KIND NAME lists a plugin's)",
    )
