"""Commands whose caller has closed standard input, output or errors."""

from __future__ import annotations

import subprocess
import sys

import pytest

from twister2_testkit.jobs import Jobs


@pytest.mark.parametrize("detached", [False, True])
@pytest.mark.parametrize("closed", [(0,), (0, 1), (2,), (0, 1, 2)], ids=lambda closed: "".join(map(str, closed)))
def test_a_job_submitted_with_closed_streams_completes(jobs: Jobs, closed: tuple[int, ...], detached: bool) -> None:
    program = jobs.program(
        """
        def main(env):
            print("hello")
        """
    )
    words = ["submit", "standalone", *(["--detach"] if detached else []), "-n", "1", str(program)]
    closing = f"import os, sys; [os.close(n) for n in {closed}]; os.execv(sys.executable, sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", closing, sys.executable, "-m", "twister2.cli.main", *words],
        cwd=jobs.folder,
        env=jobs.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=50,
        check=False,
    )
    said = "".join(log.read_text() for folder in jobs.folders() for log in folder.glob("master.log"))
    assert done.returncode == 0, said
    jobs.until_event("job_ended")
    assert [event["state"] for event in jobs.events("job_ended")] == ["completed"], said
