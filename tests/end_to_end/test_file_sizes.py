"""A limit on the size of files (ulimit -f) that leaves no room for a job's own is named, whoever meets it."""

from __future__ import annotations

import resource
import shlex
import sys

import pytest

from twister2_testkit.jobs import Done, Jobs

PROGRAM = """
    def main(env):
        print("it ran")
"""


def limited(jobs: Jobs, size: int, *words: str) -> Done:
    """A command that may make no file of more than ``size`` bytes."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    command = [sys.executable, "-m", "twister2.cli.main", *words]
    source = (
        f"import os, resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {hard})); "
        f"os.execvp({command[0]!r}, {command!r})"
    )
    return jobs.python("-c", source)


@pytest.mark.parametrize("size", [0, 512, 1024])
def test_no_room_for_a_jobs_own_files(jobs: Jobs, size: int) -> None:
    program = str(jobs.program(PROGRAM))
    for words in (("submit", "standalone", program), ("submit", "standalone", "--detach", program)):
        done = limited(jobs, size, *words)
        assert done.code in (1, 4), (shlex.join(words), done)
        assert "ulimit -f" in done.err, done
        assert "mistake of its own" not in done.err, done
        assert done.out == ""
    for words in (("list",), ("clean", "--all")):
        done = limited(jobs, size, *words)
        assert done.code == 0, (words, done)
