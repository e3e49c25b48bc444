"""Keep the repository's distributions in step: ``python tools/workspace.py --help``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from distributions import read_workspace
from import_rules import import_contracts
from requirements import constraints_text, requirements_text
from rules import check


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, or 1 when the check found something."""
    parser = argparse.ArgumentParser(description="Check and describe the distributions of this repository.")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent, help="the repository")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="naming rule, required files, pins, layers; one line per violation")
    commands.add_parser("requirements", help="write requirements-dev.txt")
    commands.add_parser("constraints", help="write constraints.txt from what this interpreter has installed")
    commands.add_parser("import-rules", help="print the import-linter configuration")
    listing = commands.add_parser("list", help="print the folders, one per line")
    listing.add_argument("--default", action="store_true", help="only what `pip install twister2` brings")
    options = parser.parse_args(arguments)

    workspace = read_workspace(options.root.resolve())
    if options.command == "check":
        problems = check(workspace)
        for problem in problems:
            print(problem)
        print(f"{len(workspace.members)} distributions, {len(problems)} problems", file=sys.stderr)
        return 1 if problems else 0
    if options.command == "requirements":
        (workspace.root / "requirements-dev.txt").write_text(requirements_text(workspace), encoding="utf-8")
    elif options.command == "constraints":
        (workspace.root / "constraints.txt").write_text(constraints_text(), encoding="utf-8")
    elif options.command == "import-rules":
        print(import_contracts(workspace))
    else:
        for member in workspace.default_members() if options.default else workspace.members:
            print(member.path.relative_to(workspace.root).as_posix())
    return 0


if __name__ == "__main__":
    sys.exit(main())
