"""Write RESULTS.md from the result lines: per workload and size the last session, medians and paired ratios.

python summarize.py [--results DIR] [--output FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.contestants import RESULTS, ROOT
from harness.workloads import WORKLOADS, Workload

Line = Mapping[str, Any]

INTRODUCTION = """\
# Results

Written by `summarize.py` from the result lines of `run.py`; see [README.md](README.md) for what was run and how to run
it again. The contestants of a table ran in turn (A B C, A B C, ...) in one session on one machine, each in processes of
its own, with inputs in the page cache; every counted run gave the right answer. `ratio` is the median (least to most)
of the ratios to the reference within each round. `ready` and `wall` are counted from the start of the command, to a
system that takes work and to the command's end; `job` lies between: from a started system to the answer, reading the
input included. `memory` is the largest sum over all processes of the run, with shared pages counted once; a dash means
that the run was too short to say.
"""
COLUMNS = ("system", "runs ok", "median", "min", "max", "ratio", "ready", "job", "wall", "CPU", "memory", "left")


def last_session(lines: Iterable[Line]) -> list[Line]:
    """The lines of the youngest session among ``lines``."""
    lines = list(lines)
    youngest = max(line["session"] for line in lines)
    return [line for line in lines if line["session"] == youngest]


def ratios(lines: Sequence[Line], metric: str, reference: str) -> dict[str, list[float]]:
    """For each system its ratios to the reference, one for each round in which both gave the right answer."""
    good = {(line["round"], line["system"]): line[metric] for line in lines if line["ok"]}
    found: dict[str, list[float]] = {}
    for (number, system), value in good.items():
        base = good.get((number, reference))
        if base:
            found.setdefault(system, []).append(value / base)
    return found


def figure(value: float | None, unit: str = "") -> str:
    """Three significant digits."""
    if value is None:
        return "-"
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:.{digits}f}{unit}"


def median(lines: Sequence[Line], field: str) -> float | None:
    values = [line[field] for line in lines if line.get(field) is not None]
    return statistics.median(values) if values else None


def row(system: str, lines: Sequence[Line], metric: str, to_reference: Sequence[float]) -> tuple[str, ...]:
    """One line of the table; ``lines`` are all runs of the system."""
    good = [line for line in lines if line["ok"]]
    runs = f"{len(good)}/{len(lines)}"
    if not good:
        return (system, runs, *["-"] * (len(COLUMNS) - 2))
    values = [line[metric] for line in good]
    ratio = "-"
    if to_reference:
        middle, least, most = statistics.median(to_reference), min(to_reference), max(to_reference)
        ratio = f"{middle:.2f} ({least:.2f} to {most:.2f})"
    return (
        system,
        runs,
        figure(statistics.median(values), " s"),
        figure(min(values), " s"),
        figure(max(values), " s"),
        ratio,
        *(figure(median(good, field), " s") for field in ("ready_s", "job_s", "wall_s", "cpu_s")),
        figure(median(good, "peak_pss_mb"), " MB"),
        str(max(line["left_behind"] for line in good)),
    )


def table(lines: Sequence[Line], workload: Workload) -> list[str]:
    """The table's lines, best system first."""
    by_system: dict[str, list[Line]] = {}
    for line in lines:
        by_system.setdefault(line["system"], []).append(line)
    compared = ratios(lines, workload.metric, workload.reference)

    def rank(system: str) -> float:
        value = median([line for line in by_system[system] if line["ok"]], workload.metric)
        return float("inf") if value is None else value

    rows = [row(name, by_system[name], workload.metric, compared.get(name, [])) for name in sorted(by_system, key=rank)]
    return ["| " + " | ".join(cells) + " |" for cells in (COLUMNS, ["---"] * len(COLUMNS), *rows)]


def section(name: str, lines: Sequence[Line]) -> list[str]:
    """Heading, circumstances, table, and what each contestant is."""
    workload, first = WORKLOADS[name], lines[0]
    rounds = 1 + max(line["round"] for line in lines)
    machine = ", ".join(f"{key} {value}" for key, value in first["machine"].items())
    busy = max(line["busy_before"] for line in lines)
    about = {line["system"]: (line["about"], line["versions"]) for line in lines}
    described = [
        f"- `{system}`: {text} ({', '.join(f'{package} {version}' for package, version in versions.items())})"
        for system, (text, versions) in sorted(about.items())
    ]
    return [
        f"## {name}, size {first['size']}",
        "",
        f"The workload: {workload.about}. Compared: `{workload.metric.removesuffix('_s')}`, with {first['workers']} "
        f"workers; ratios to `{workload.reference}`. Session {first['session']}, {rounds} rounds; the machine was at "
        f"most {busy:.0%} busy before a run. Machine: {machine}.",
        "",
        *table(lines, workload),
        "",
        *described,
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the tables from the result lines.")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the result lines")
    parser.add_argument("--output", type=Path, default=ROOT / "RESULTS.md")
    args = parser.parse_args()
    text = [INTRODUCTION]
    for name in WORKLOADS:
        path = args.results / f"{name}.jsonl"
        if not path.exists():
            continue
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for size in sorted({line["size"] for line in lines}):
            text += section(name, last_session(line for line in lines if line["size"] == size))
    args.output.write_text("\n".join(text))


if __name__ == "__main__":
    main()
