"""Texts that cannot be encoded, a folder that is gone, an output that takes nothing: said, without a traceback."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from twister2_testkit.jobs import Jobs

COMMAND = (sys.executable, "-m", "twister2.cli.main")


def test_an_error_with_a_text_that_cannot_be_encoded_is_listed(jobs: Jobs) -> None:
    program = jobs.program("def main(env): raise ValueError('bad \\ud800 text')")
    assert jobs.cli("submit", "standalone", "-n", "1", program).code == 1
    for command in (("list",), ("status", "last"), ("wait", "last")):
        done = jobs.cli(*command)
        assert done.code in (0, 1), done
        assert "mistake of its own" not in done.err, done
    assert "\\ud800" in jobs.cli("status", "last").out


def test_commands_in_a_folder_that_was_removed(jobs: Jobs) -> None:
    gone = jobs.folder / "gone"
    program = jobs.program("def main(env): pass")
    script = f"mkdir {gone} && cd {gone} && rmdir {gone} && exec {' '.join(COMMAND)}"
    listed = subprocess.run(["sh", "-c", f"{script} list"], env=jobs.environment, capture_output=True, text=True)
    assert listed.returncode == 0, listed
    run = subprocess.run(
        ["sh", "-c", f"{script} submit standalone -n 1 {program}"],
        env=jobs.environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 2, run
    assert "the current folder does not exist any more" in run.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_an_output_that_takes_nothing(jobs: Jobs) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COMMAND, "version"], env=jobs.environment, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1, done
    assert "[T2-D602] what was printed could not be written" in done.stderr
    assert "Traceback" not in done.stderr
