"""Run the contestants of a workload in turn (A B C, A B C, ...) and append one JSON line per run to the results.

    python run.py startup --rounds 5
    python run.py wordcount --size small --systems multiprocessing_counter,dask_futures

The lines go to <workload>.jsonl under --results (default: $BENCH_RESULTS, or bench-results in the temporary folder).
Exit code 1 when a run failed or gave a wrong answer.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import shutil
import sys
import time
from pathlib import Path

from harness.contest import MARK
from harness.contestants import DATA, RESULTS, Contestant, of_workload
from harness.machine import description, wait_until_quiet
from harness.runner import adopt_orphans, run_command
from harness.workloads import WORKLOADS, Workload

_BLOCK = 8 << 20


def read_inputs(workload: Workload, size: str) -> None:
    """Bring the inputs into the page cache, so that no contestant pays for a cold disk."""
    for name in workload.inputs:
        with (DATA / name.format(size=size)).open("rb") as file:
            while file.read(_BLOCK):
                pass


def measure(contestant: Contestant, *, size: str, workers: int, limit_s: float) -> dict[str, object]:
    """One run, as the fields of a result line."""
    shutil.rmtree(contestant.output, ignore_errors=True)
    contestant.output.mkdir(parents=True)
    command = contestant.command(size=size, workers=workers, spawned=time.monotonic())
    outcome = run_command(command, env=contestant.environment(), limit_s=limit_s)
    result: dict[str, object] = {
        "exit_code": outcome.exit_code,
        "wall_s": round(outcome.wall_s, 4),
        "cpu_s": round(outcome.cpu_s, 3),
        "peak_pss_mb": None if outcome.peak_pss_bytes is None else round(outcome.peak_pss_bytes / 1e6, 1),
        "processes": outcome.processes,
        "left_behind": outcome.left_behind,
    }
    said = re.search(rf"{MARK}(\{{.*\}})", outcome.stdout)
    if outcome.exit_code is None:
        problem = f"killed after {limit_s:g} s"
    elif outcome.exit_code != 0 or said is None:
        problem = (outcome.stderr or outcome.stdout or "no result line").strip()[-1500:]
    else:
        line = json.loads(said[1])
        result.update(ready_s=round(line["ready_s"], 4), job_s=round(line["job_s"], 4))
        problem = WORKLOADS[contestant.workload].check(line["answer"], size)
        if isinstance(line["answer"], dict):
            kept = ("figures", "pairs", "resident_mb", "skipped")
            result.update({key: line["answer"][key] for key in kept if key in line["answer"]})
    shutil.rmtree(contestant.output, ignore_errors=True)
    return {**result, "ok": not problem, "problem": problem}


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the contestants of a workload in turn.")
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--systems", default="", help="names separated by commas (default: all of the workload)")
    parser.add_argument("--rounds", type=int, default=1, help="how often each contestant runs")
    parser.add_argument("--size", default="full", help="one of harness/sizes.py that the workload has")
    parser.add_argument("--workers", type=int, default=2, help="how many processes compute")
    parser.add_argument("--limit", type=float, default=180, help="seconds after which a run is killed")
    parser.add_argument("--quiet-wait", type=float, default=15, help="seconds to wait for a quiet machine before a run")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the result lines")
    args = parser.parse_args()
    if args.size not in WORKLOADS[args.workload].sizes:
        parser.error(f"{args.workload} has the sizes {', '.join(WORKLOADS[args.workload].sizes)}")

    try:
        contestants = of_workload(args.workload, [name for name in args.systems.split(",") if name])
        versions = {contestant.system: contestant.versions() for contestant in contestants}
    except FileNotFoundError as error:
        parser.error(str(error))
    common = {
        "session": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "workload": args.workload,
        "size": args.size,
        "workers": args.workers,
        "machine": description(),
    }
    args.results.mkdir(parents=True, exist_ok=True)
    adopt_orphans()
    failures = 0
    for number in range(args.rounds):
        for contestant in contestants:
            read_inputs(WORKLOADS[args.workload], args.size)
            busy_before = round(wait_until_quiet(0.15, args.quiet_wait), 2)
            result = measure(contestant, size=args.size, workers=args.workers, limit_s=args.limit)
            failures += not result["ok"]
            name = contestant.system
            line = {
                **common,
                "round": number,
                "system": name,
                "about": contestant.about,
                "versions": versions[name],
                "busy_before": busy_before,
                **result,
            }
            with (args.results / f"{args.workload}.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
            shown = ("wall_s", "ready_s", "job_s", "cpu_s", "peak_pss_mb", "left_behind", "busy_before")
            figures = "  ".join(f"{key} {line[key]}" for key in shown if line.get(key) is not None)
            print(f"[{number}] {name}: {figures}  {'ok' if result['ok'] else result['problem']}", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
