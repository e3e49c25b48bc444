"""Each command runs in a runner of its own, because a runner adopts all orphans of its process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUNNER = """
import dataclasses, json, os, sys
from harness.runner import adopt_orphans, run_command
adopt_orphans()
outcome = run_command([sys.executable, "-c", sys.argv[1]], env=dict(os.environ), limit_s=float(sys.argv[2]))
print(json.dumps(dataclasses.asdict(outcome)))
"""


def outcome_of(program: str, limit_s: float = 30) -> dict[str, object]:
    words = [sys.executable, "-c", RUNNER, program, str(limit_s)]
    run = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True, timeout=60)
    found: dict[str, object] = json.loads(run.stdout)
    return found


def test_times_and_output() -> None:
    outcome = outcome_of("import sys, time; time.sleep(0.3); print('out'); print('err', file=sys.stderr); sys.exit(3)")
    assert (outcome["exit_code"], outcome["stdout"], outcome["stderr"]) == (3, "out\n", "err\n")
    assert outcome["wall_s"] >= 0.3
    assert outcome["cpu_s"] < outcome["wall_s"]
    assert outcome["left_behind"] == 0


def test_a_run_too_short_has_no_memory_figure() -> None:
    assert outcome_of("pass")["peak_pss_bytes"] is None


def test_memory_shared_by_processes_counts_once() -> None:
    size = 100_000_000
    program = f"import os, time; block = b'x' * {size}; [os.fork() for _ in range(2)]; time.sleep(SECONDS)"
    outcome = {"peak_pss_bytes": None}
    for seconds in ("2.5", "20"):  # on a busy machine samples are rare
        if outcome["peak_pss_bytes"] is None:
            outcome = outcome_of(program.replace("SECONDS", seconds))
    assert outcome["processes"] == 4
    assert size < outcome["peak_pss_bytes"] < 2 * size


def test_cpu_time_of_children_and_orphans_counts() -> None:
    burn = "import time\nwhile time.process_time() < 0.5: pass"
    orphan = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {burn!r}], start_new_session=True)"
    program = f"import subprocess, sys, time; subprocess.run([sys.executable, '-c', {orphan!r}]); time.sleep(2)"
    assert outcome_of(program)["cpu_s"] >= 0.5


def test_too_long_a_run_is_killed_with_all_below_it() -> None:
    begin = time.monotonic()
    outcome = outcome_of("import os, time; os.fork(); time.sleep(600)", limit_s=1)
    assert outcome["exit_code"] is None
    assert time.monotonic() - begin < 30


def test_what_is_left_behind_is_counted_and_killed(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    sleeper = f"import os, pathlib, time; pathlib.Path({str(note)!r}).write_text(str(os.getpid())); time.sleep(600)"
    program = (
        "import pathlib, subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', {sleeper!r}], start_new_session=True)\n"
        f"while not pathlib.Path({str(note)!r}).exists(): time.sleep(0.01)"
    )
    assert outcome_of(program)["left_behind"] == 1
    assert not Path("/proc", note.read_text()).exists()
