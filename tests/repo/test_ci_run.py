"""What the CI script makes of a test run: failures in the crowd are run again, a run that did not end has failed."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = (Path(__file__).parents[2] / ".ci" / "run").read_text(encoding="utf-8")
STEP = SCRIPT[SCRIPT.index("unsteady=()\n") : SCRIPT.index('step "test" run_tests')]
"""The part of the script with the step of the tests; what is before it installs servers."""

PASSED = "== 9 passed in 1.00s =="
FAILED = "== 1 failed, 8 passed in 1.00s =="
STOPPED = "!!!!!!!!!! KeyboardInterrupt !!!!!!!!!!\n== 1 failed, 3 passed in 1.00s =="
BROKEN = "INTERNALERROR> Traceback (most recent call last):"

# What a run prints and its exit code (of make, or 124 of a time limit), how many tests have failed, whether these pass
# when they are run again, and whether the step passes.
RUNS = {
    "all pass": (PASSED, 0, 0, True, True),
    "one fails in the crowd": (FAILED, 2, 1, True, True),
    "one fails again": (FAILED, 2, 1, False, False),
    "seven fail": (FAILED, 2, 7, True, False),
    "cut off": (STOPPED, 124, 1, True, False),
    "killed": (FAILED, 137, 1, True, False),
    "interrupted": (STOPPED, 2, 1, True, False),
    "broken": (BROKEN, 2, 1, True, False),
    "not the same tests found": ("== 2 errors in 1.00s ==", 2, 2, True, False),
}


@pytest.mark.parametrize("name", RUNS)
def test_the_step_of_the_tests(name: str, tmp_path: Path) -> None:
    said, code, n_failed, again, passes = RUNS[name]
    lastfailed = tmp_path / ".pytest_cache" / "v" / "cache" / "lastfailed"
    lastfailed.parent.mkdir(parents=True)
    what = "test.py::test_{}" if "failed" in said else "gw{}"
    lastfailed.write_text(json.dumps({what.format(number): True for number in range(n_failed)}))
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    runs = f"""
        set -uo pipefail
        scratch=.
        {STEP}
        within() {{ # in place of the one with a time limit
          [ "$*" = "4200 make test" ] && {{ printf '%s\\n' {shlex.quote(said)}; return {code}; }}
          return {0 if again else 2}
        }}
        run_tests tests 4200
        code=$?
        echo "unsteady: ${{#unsteady[@]}}"
        exit $code
    """
    done = subprocess.run(["bash", "-c", runs], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode == 0) == passes, done
    assert f"unsteady: {n_failed if passes else 0}" in done.stdout, done
