"""The command on a terminal: the progress display and what workers print share it, and nothing printed is lost."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
from pathlib import Path

from twister2_testkit.jobs import Jobs
from twister2_testkit.screen import Screen


def on_terminal(jobs: Jobs, *words: str | Path) -> tuple[int, str]:
    """Run the command on a terminal; its exit code and all that was written to it."""
    ours, its = pty.openpty()
    command = [sys.executable, "-m", "twister2.cli.main", *map(str, words)]
    environment = {**jobs.environment, "TERM": "xterm"}
    process = subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env=environment, cwd=jobs.folder)
    os.close(its)
    written = b""
    with contextlib.suppress(OSError):  # EIO: nobody has it open any more
        while data := os.read(ours, 65536):
            written += data
    os.close(ours)
    return process.wait(20), written.decode()


def test_lines_that_are_not_ended_yet_stay(jobs: Jobs) -> None:
    program = jobs.program(
        """
        import sys, time

        def main(env):
            for number in range(12):
                print(f"<{number}>", end="", flush=True)
                for _ in range(3):
                    env.progress(number, 12, "steps")
                    time.sleep(0.07)
                if number == 5:
                    print()
                    for _ in range(4):
                        env.progress(number, 12, "steps")
                        time.sleep(0.07)
        """
    )
    code, written = on_terminal(jobs, "submit", "standalone", "-n", "1", program)
    assert code == 0, written
    assert "\x1b[J" in written, "there was no display"
    screen = Screen()
    screen.write(written)
    lines = screen.lines
    assert lines[:2] == ["".join(f"<{n}>" for n in range(6)), "".join(f"<{n}>" for n in range(6, 12))], lines
    assert lines[2].startswith("prog COMPLETED"), lines
