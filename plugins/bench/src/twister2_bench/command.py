"""The subcommand: options in, a job of the measuring program, tables and files out."""

from __future__ import annotations

import csv
import importlib.util
import json
import pathlib
import sys
from typing import TYPE_CHECKING, Any

import twister2
from twister2.spec.collectives import OPERATIONS
from twister2.spec.command import Command
from twister2.spec.errors import DataAccessError, UsageError
from twister2.spec.names import nearest
from twister2_bench.results import COLUMNS, Results
from twister2_bench.units import size_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

PAIR_TESTS = ("latency", "bandwidth", "bidirectional")
ALL = (*PAIR_TESTS, *OPERATIONS)
MAX_SIZE = "4M"
SECONDS = 20.0
GROWTH = 8
"""Ratio of neighbouring sizes."""
PLOT_LIBRARY = "matplotlib"
FILES = ("comm.csv", "comm.json", "comm.png")
"""In the folder of ``--output``."""


class BenchCommand(Command):
    """``twister2 bench``."""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        what = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
        comm = what.add_parser(
            "comm",
            help="latency, bandwidth and every collective between the workers of a profile",
            description="Measure latency, bandwidth and every collective between the workers of a profile.",
            epilog=f"operations: {', '.join(ALL)}",
            allow_abbrev=False,
        )
        comm.add_argument("profile", nargs="?", metavar="PROFILE", help="where to run it (default: as configured)")
        comm.add_argument("-n", "--workers", type=int, metavar="N", help="number of workers (job.workers)")
        comm.add_argument("--operations", metavar="LIST", help="only these, separated by commas (default: all)")
        comm.add_argument("--sizes", metavar="LIST", help="sizes, separated by commas: 8,1K,64K,1M")
        comm.add_argument("--max-size", metavar="SIZE", help=f"sizes from 8 bytes up to this one (default: {MAX_SIZE})")
        comm.add_argument(
            "--seconds", type=float, default=SECONDS, metavar="S", help=f"how long to measure (default: {SECONDS:g})"
        )
        comm.add_argument("--transport", metavar="LIST", help="transports in order of preference (job.comm)")
        comm.add_argument("--shared", action="store_true", help="arrays born in shared memory (env.empty_shared)")
        comm.add_argument("--output", metavar="DIR", help="write comm.csv, comm.json and the plot comm.png into DIR")
        comm.add_argument("--csv", metavar="FILE", help="write the figures as CSV")
        comm.add_argument("--json", action="store_true", help="print JSON for programs, no table")
        comm.add_argument("--config", action="append", metavar="FILE", help="as for twister2 submit")
        comm.add_argument(
            "-o", "--option", dest="settings", action="append", default=[], metavar="KEY=VALUE", help="likewise"
        )

    def run(self, arguments: argparse.Namespace) -> int:
        order = order_of(arguments)
        job: dict[str, Any] = {"job": {"comm": arguments.transport.split(",")}} if arguments.transport else {}
        output = _folder(arguments.output) if arguments.output else None
        if arguments.csv:
            _check_writable(pathlib.Path(arguments.csv))
        returned = twister2.run(
            pathlib.Path(__file__).with_name("program.py"),
            args=[json.dumps(order)],
            workers=arguments.workers,
            profile=arguments.profile,
            config=job,
            settings=arguments.settings,
            files=arguments.config,
            name="bench-comm",
        )
        results = Results.of(arguments.profile or "as configured", returned)
        if arguments.json:
            print(json.dumps(results.to_dict(), indent=2, sort_keys=True))
        else:
            from twister2_bench.table import text_of

            print(text_of(results))
        if arguments.csv:
            write_csv(results, pathlib.Path(arguments.csv))
        if output is not None:
            _write_all(results, output)
        results.check()
        return 0


def order_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the workers are told to do.

    :raises UsageError: an operation that does not exist, sizes that cannot be measured, no time, one worker.
    """
    if arguments.seconds <= 0:
        raise UsageError(
            f"--seconds {arguments.seconds:g} is no time to measure",
            why="it is how long the measurements take, about",
            remedy=f"leave it away ({SECONDS:g} s), or give a number above 0",
        )
    if arguments.workers is not None and arguments.workers < 2:
        raise UsageError(
            "communication cannot be measured with one worker",
            why=f"--workers is {arguments.workers}",
            remedy="ask for two or more: --workers 2",
        )
    if arguments.sizes and arguments.max_size:
        raise UsageError(
            "--sizes and --max-size contradict each other",
            why="the one lists the sizes, the other is the last of a series",
            remedy="give one of them",
        )
    if arguments.sizes:
        sizes = sorted({size_of(word) for word in arguments.sizes.split(",")})
    else:
        sizes = series(size_of(arguments.max_size or MAX_SIZE))
    operations = arguments.operations.split(",") if arguments.operations else list(ALL)
    for name in operations:
        if name not in ALL:
            near = nearest(name, ALL)
            raise UsageError(
                f"there is no operation {name!r}",
                why=f"operations are {', '.join(ALL)}",
                remedy=f"did you mean {near}?" if near else "choose among them",
            )
    return {"sizes": sizes, "operations": operations, "seconds": arguments.seconds, "shared": arguments.shared}


def series(largest: int) -> list[int]:
    """Sizes from 8 bytes up, each eight times the one before but for the last one, which is the largest."""
    sizes = [8]
    while sizes[-1] * GROWTH**1.5 <= largest:
        sizes.append(sizes[-1] * GROWTH)
    return sorted({*sizes, largest})


def write_csv(results: Results, path: pathlib.Path) -> None:
    """All rows with the columns of :data:`COLUMNS`.

    :raises DataAccessError: the file cannot be written.
    """
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", restval="")
            writer.writeheader()
            writer.writerows(results.rows)
    except OSError as error:
        raise _unwritable(path, error) from error


def _write_all(results: Results, folder: pathlib.Path) -> None:
    table, data, picture = (folder / name for name in FILES)
    write_csv(results, table)
    files = [table.name, data.name]
    try:
        data.write_text(json.dumps(results.to_dict(), indent=2, sort_keys=True), encoding="utf-8")
    except OSError as error:
        raise _unwritable(data, error) from error
    if importlib.util.find_spec(PLOT_LIBRARY) is None:
        _say(f"no plot, because {PLOT_LIBRARY} is not installed; pip install 'twister2-bench[plot]'")
    else:
        from twister2_bench.plot import plot

        try:
            plot(results, picture)
        except OSError as error:
            raise _unwritable(picture, error) from error
        files.append(picture.name)
    _say(f"wrote {_listed(files)} in {folder}")


def _folder(name: str) -> pathlib.Path:
    """The output folder, made before anything is measured.

    :raises DataAccessError: it cannot be made, or its files cannot be written.
    """
    folder = pathlib.Path(name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error
    for file in FILES:
        _check_writable(folder / file)
    return folder


def _check_writable(path: pathlib.Path) -> None:
    """
    :raises DataAccessError: the file cannot be written: better said before anything is measured than behind it.
    """
    try:
        new = not path.exists()
        path.open("a", encoding="utf-8").close()
        if new:
            path.unlink()
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: pathlib.Path, error: OSError) -> DataAccessError:
    return DataAccessError(
        f"{path} cannot be written",
        why=error.strerror or str(error),
        remedy="name a file or folder that can be, in a folder that exists",
    )


def _listed(files: Sequence[str]) -> str:
    return f"{', '.join(files[:-1])} and {files[-1]}"


def _say(text: str) -> None:
    print(text, file=sys.stderr)
