"""A job whose data are four times its memory budget finishes within the budget, and leaves nothing on the disks."""

from __future__ import annotations

import ast
import importlib.util
import json
import pathlib
import subprocess
import sys
import textwrap

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = ROOT / "benchmarks" / "micro" / "spilling.py"
MEMORY_MB = 104
MARGIN = 36 << 20
"""What is not counted: modules imported later, batches that are being made, pages the allocator keeps."""


def benchmark():
    spec = importlib.util.spec_from_file_location("spilling", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.timeout(240)
def test_four_times_the_budget():
    record = benchmark().RECORD_BYTES
    n_budget = 80 << 20
    n = 4 * n_budget // record
    command = [sys.executable, str(PROGRAM), "--json", "--only-short", "--memory", str(MEMORY_MB)]
    command += ["--budget", str(n_budget >> 20), "--times", "4"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    assert found["n"] == n
    workers = found["workers"]
    assert sum(one["keyed_gather"]["values"] for one in workers) == 2 * n
    for one in workers:
        assert n * record > 3.5 * one["budget"]
        for operator in ("keyed_gather", "join"):
            assert one[operator]["spilled"] > 0
            assert one[operator]["resident"] < one["budget"] + MARGIN, (operator, one)


@pytest.mark.timeout(120)
def test_spill_folders_of_a_job(tmp_path):
    """Several disks by option; a missing one is named before anything is lost, and a kill leaves nothing there."""
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import os, signal, sys
            import twister2
            from twister2_net import keyed_gather

            def main(env):
                pairs = ((number % 50_000, "x" * 400) for number in range(120_000))
                got = keyed_gather(env, pairs)
                total = sum(len(values) for _, values in got)
                if env.args and env.worker_id == 1:
                    os.kill(os.getpid(), signal.SIGKILL)
                return total, env.memory.use().spilled

            if __name__ == "__main__":
                folders = sys.argv[1]
                settings = ["job.memory_mb=48", "job.oversubscribe=true", "job.attempts=1", f"job.spill_dirs={folders}"]
                print(twister2.run(main, args=sys.argv[2:], workers=2, settings=settings))
            """
        )
    )
    disks = [tmp_path / "a", tmp_path / "b"]
    for disk in disks:
        disk.mkdir()

    def run(folders, *args):
        return subprocess.run(
            [sys.executable, str(program), json.dumps(list(map(str, folders))), *args],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    ended = run(disks)
    assert ended.returncode == 0, ended.stderr
    results = ast.literal_eval(ended.stdout.splitlines()[-1])
    assert sum(total for total, _ in results) == 240_000
    assert all(spilled > 0 for _, spilled in results)
    ended = run(disks, "kill")
    assert ended.returncode != 0
    assert [list(disk.iterdir()) for disk in disks] == [[], []]
    ended = run([tmp_path / "nowhere"])
    assert ended.returncode != 0
    assert str(tmp_path / "nowhere") in ended.stderr
    assert "job.spill_dirs" in ended.stderr
