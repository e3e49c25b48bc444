"""Write RESULTS.md from the result lines: the last session of each workload, size and number of workers.

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

Workloads with cases (`collectives`, `stream_paired`, `keyed_partition`...) show a figure for each: times and memory,
less is better, or records or GB per second, more is better; every figure is the median over rounds of medians over many
calls.
"""
COLUMNS = ("system", "runs ok", "median", "min", "max", "ratio", "ready", "job", "wall", "CPU", "memory", "left")


def last_session(lines: Iterable[Line]) -> list[Line]:
    """The lines of the youngest session among ``lines``."""
    lines = list(lines)
    youngest = max(line["session"] for line in lines)
    return [line for line in lines if line["session"] == youngest]


def latest(lines: Iterable[Line], workload: Workload) -> list[Line]:
    """The lines that count: of the last session, or of each contestant's own."""
    if not workload.apart:
        return last_session(lines)
    lines = [line for line in lines if "skipped" not in line]
    systems = sorted({line["system"] for line in lines})
    return [line for system in systems for line in last_session(each for each in lines if each["system"] == system)]


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


def shown(value: float, unit: str) -> str:
    """A figure of a case: seconds in the unit that fits, others with three digits."""
    if unit != "s":
        return figure(value)
    for scale, name in ((1.0, "s"), (1e-3, "ms")):
        if value >= scale:
            return figure(value / scale, f" {name}")
    return figure(value * 1e6, " us")


def case_table(lines: Sequence[Line], workload: Workload) -> list[str]:
    """A row for each case, a column for each system: the median over rounds, and the median of the ratios within
    rounds to the reference, which has the first column.
    """
    good = [line for line in lines if line["ok"]]
    names = sorted({line["system"] for line in lines}, key=lambda name: (name != workload.reference, name))
    rows = [("case", *(f"{name} (ratio)" if name != workload.reference else name for name in names))]
    rows.append(tuple(["---"] * len(rows[0])))
    for case in dict.fromkeys(case for line in good for case in line["figures"]):
        per_case = [{**line, "case": line["figures"][case]} for line in good if case in line["figures"]]
        compared = ratios(per_case, "case", workload.reference)
        cells = [case]
        for name in names:
            value = median([line for line in per_case if line["system"] == name], "case")
            cell = "-" if value is None else shown(value, workload.unit)
            if name in compared and name != workload.reference:
                cell += f" ({statistics.median(compared[name]):.2f})"
            cells.append(cell)
        rows.append(tuple(cells))
    return ["| " + " | ".join(cells) + " |" for cells in rows]


def pair_table(lines: Sequence[Line], workload: Workload) -> list[str]:
    """A row for each contestant and case: Twister2, the hand-written loop, and their ratio in each round (or their
    difference).
    """
    how = ("the least", "more than that, s") if workload.apart else ("opponent", "ratio")
    rows = [("contestant", "case", "twister2", *how), ("---",) * 5]
    good = [line for line in lines if line["ok"]]
    for system in sorted({line["system"] for line in good}):
        mine = [line["pairs"] for line in good if line["system"] == system and "pairs" in line]
        for case in dict.fromkeys(case for pairs in mine for case in pairs):
            both = [pairs[case] for pairs in mine if case in pairs]
            ours, theirs = (statistics.median(column) for column in zip(*both, strict=True))
            found = [one - other if workload.apart else one / other for one, other in both]
            spread = f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"
            rows.append((system, case, shown(ours, workload.unit), shown(theirs, workload.unit), spread))
    return ["| " + " | ".join(cells) + " |" for cells in rows]


def tables(lines: Sequence[Line], workload: Workload) -> list[str]:
    """What belongs to the workload: times and memory of its runs, or the figures of their cases."""
    if not workload.unit:
        return table(lines, workload)
    failed = [f"{line['system']} failed in round {line['round']}" for line in lines if not line["ok"]]
    found: list[str] = []
    if any("figures" in line for line in lines):
        found += case_table(lines, workload)
    if any("pairs" in line for line in lines):
        found += [*([""] if found else []), *pair_table(lines, workload)]
    return [*found, *(["", f"Not counted: {', '.join(failed)}."] if failed else [])]


def compared(workload: Workload, workers: int) -> str:
    """What the section compares, in words."""
    if not workload.unit:
        metric = workload.metric.removesuffix("_s")
        return f"Compared: `{metric}`, with {workers} workers; ratios to `{workload.reference}`."
    timed_calls = workload.unit == "s" and workload.reference != "twister2_and_python" and not workload.apart
    unit = (
        "median time of a call on the slowest rank"
        if timed_calls
        else "seconds"
        if workload.unit == "s"
        else workload.unit
    )
    return f"Compared: {unit}, with {workers} workers."


def section(name: str, lines: Sequence[Line]) -> list[str]:
    """Heading, circumstances, table, and what each contestant is."""
    workload, first = WORKLOADS[name], lines[0]
    rounds = 1 + max(line["round"] for line in lines)
    sessions = sorted({line["session"] for line in lines})
    when = f"Session {sessions[0]}" if len(sessions) == 1 else f"Sessions {sessions[0]} to {sessions[-1]}"
    machine = ", ".join(f"{key} {value}" for key, value in first["machine"].items())
    busy = max(line["busy_before"] for line in lines)
    about = {line["system"]: (line["about"], line["versions"]) for line in lines}
    described = [
        f"- `{system}`: {text} ({', '.join(f'{package} {version}' for package, version in versions.items())})"
        for system, (text, versions) in sorted(about.items())
    ]
    return [
        f"## {name}, size {first['size']}, {first['workers']} workers",
        "",
        f"The workload: {workload.about}. {compared(workload, first['workers'])} {when}, {rounds} "
        f"rounds; the machine was at most {busy:.0%} busy before a run. Machine: {machine}.",
        "",
        *tables(lines, workload),
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
        for kind in sorted({(line["size"], line["workers"]) for line in lines}):
            counted = latest((line for line in lines if (line["size"], line["workers"]) == kind), WORKLOADS[name])
            text += section(name, counted) if counted else []
    args.output.write_text("\n".join(text))


if __name__ == "__main__":
    main()
