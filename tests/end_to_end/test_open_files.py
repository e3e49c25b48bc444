"""Files that a program holds open when it ends are written, as Python writes them at the end of any program."""

from __future__ import annotations

import gzip

import pytest

from twister2_testkit.jobs import Jobs

THREADS = ("-o", "rm.standalone.workers_as=threads", "-o", "job.comm=inproc")

HOLDS = """
import gzip, io

text = open("text", "w")
binary = open("binary", "wb")
both = open("both", "w+b")
packed = gzip.open("packed", "wt")
appended = io.TextIOWrapper(io.BufferedWriter(io.FileIO("layers", "w")))
closed = open("closed", "w")
read = open(__file__)

def main(env):
    for file in (text, packed, appended, closed):
        file.write("all of it")
    for file in (binary, both):
        file.write(b"all of it")
    closed.close()
    read.readline()
"""


@pytest.mark.parametrize("mode", ["processes", "threads"])
def test_what_a_program_has_not_closed(jobs: Jobs, mode: str) -> None:
    done = jobs.submit(jobs.program(HOLDS), *(THREADS if mode == "threads" else ()), workers=1)
    assert done.code == 0, done
    for name in ("text", "binary", "both", "layers", "closed"):
        assert (jobs.folder / name).read_text() == "all of it", name
    with gzip.open(jobs.folder / "packed", "rt") as file:
        assert file.read() == "all of it"


@pytest.mark.parametrize("how", ["main", "import"])
def test_of_a_program_that_fails(jobs: Jobs, how: str) -> None:
    fails = "def main(env):\n    log.write('so far')\n    1 / 0\n"
    source = "log = open('log', 'w')\n" + (fails if how == "main" else "log.write('so far')\n1 / 0\n")
    assert jobs.submit(jobs.program(source), workers=1).code == 1
    assert (jobs.folder / "log").read_text() == "so far"


def test_a_file_that_takes_nothing_holds_nobody_up(jobs: Jobs) -> None:
    """A pipe that nobody reads, and that is full."""
    source = """
        import fcntl, os
        read, write = os.pipe()
        size = fcntl.fcntl(write, fcntl.F_GETPIPE_SZ)
        stuck = open(write, "wb", buffering=4 * size)

        def main(env):
            stuck.write(bytes(2 * size))
        """
    done = jobs.submit(jobs.program(source), "-o", "job.threads_deadline_s=0.5", workers=1)
    assert done.code == 0, done
    assert done.seconds < 50
    assert "files of the program could not be written out after 0.5 s" in done.err
