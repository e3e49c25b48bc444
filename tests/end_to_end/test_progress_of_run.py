"""Who sees progress without having asked for it: somebody at a terminal, and who runs the command."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from pathlib import Path

from twister2_testkit.jobs import Jobs

SOURCE = """
    import sys
    {before}
    import twister2

    def main(env):
        print("worker", env.worker_id)

    if __name__ == "__main__":
        twister2.run(main, workers=1, name="mine", settings=sys.argv[1:])
"""


def on_terminal(jobs: Jobs, *words: str | Path) -> str:
    """What a command says on stderr, which is a terminal."""
    ours, theirs = os.openpty()
    said = b""
    environment = {**jobs.environment, "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, *map(str, words)],
        cwd=jobs.folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and select.select([ours], [], [], 60)[0]:
            try:
                said += os.read(ours, 4096)
            except OSError:  # nobody holds the other end any more
                break
        assert process.wait(20) == 0, said
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return said.decode()


def test_a_script_on_a_terminal_shows_progress(jobs: Jobs) -> None:
    program = jobs.program(SOURCE.format(before=""))
    assert "mine COMPLETED" in on_terminal(jobs, program)
    assert "mine COMPLETED" not in on_terminal(jobs, program, "job.observe=[]")


def test_a_script_elsewhere_shows_none(jobs: Jobs) -> None:
    program = jobs.program(SOURCE.format(before=""))
    done = jobs.python(program)
    assert (done.code, done.out, done.err) == (0, "worker 0\n", ""), done
    done = jobs.python(program, 'job.observe=["progress"]')
    assert "mine COMPLETED" in done.err, done


def test_a_notebook_shows_none(jobs: Jobs) -> None:
    program = jobs.program(SOURCE.format(before="sys.modules['ipykernel'] = sys"))
    assert on_terminal(jobs, program) == ""


def test_nothing_is_drawn_over_what_workers_that_are_threads_write(jobs: Jobs) -> None:
    threads = ["rm.standalone.workers_as=threads", "job.comm=inproc"]
    program = jobs.program(SOURCE.format(before=""))
    assert on_terminal(jobs, program, *threads) == ""
    submit = ["-m", "twister2.cli.main", "submit", "standalone", "-n", "1", "-o", threads[0], "-o", threads[1]]
    assert on_terminal(jobs, *submit, program) == ""


def test_submit_shows_it_everywhere_unless_told_otherwise(jobs: Jobs) -> None:
    program = jobs.program(SOURCE.format(before=""), "mine.py")
    assert "mine COMPLETED" in on_terminal(jobs, "-m", "twister2.cli.main", "submit", "standalone", "-n", "1", program)
    assert "mine COMPLETED" in jobs.submit(program, workers=1).err
    for option in (["-q"], ["-o", "job.observe=[]"]):
        assert "mine COMPLETED" not in jobs.submit(program, *option, workers=1).err
