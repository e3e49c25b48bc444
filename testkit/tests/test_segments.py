"""What counts as left in shared memory: neither what somebody uses, nor another test's stand-in."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import uuid

from twister2_testkit.segments import (
    FOLDER,
    is_named,
    left_behind,
    segments_of_transports,
    stand_in,
    transports_of,
)


def test_only_what_nobody_uses_is_left():
    name = f"left_{uuid.uuid4().hex}"
    path = FOLDER / name
    path.write_bytes(bytes(mmap.PAGESIZE))
    try:
        assert left_behind([f"{name}*"]) == {str(path)}
        assert str(path) in left_behind()
        with path.open("r+b") as file:
            assert not left_behind([name])
            memory = mmap.mmap(file.fileno(), 0)
        assert not left_behind([name])
        memory.close()
        assert left_behind([name]) == {str(path)}
        assert not left_behind(["right_*"])
    finally:
        path.unlink()


def test_a_stand_in_is_its_processes_while_that_lives():
    mark = f"left_{uuid.uuid4().hex}"
    own = stand_in(mark, os.getpid())
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    other = stand_in(mark, child.pid)
    try:
        own.touch()
        other.touch()
        assert not left_behind([f"{mark}*"])
        child.communicate(b"\n", timeout=20)
        assert left_behind([f"{mark}*"]) == {str(other)}
    finally:
        child.kill()
        child.wait(10)
        own.unlink(missing_ok=True)
        other.unlink(missing_ok=True)


def test_segments_of_transports_are_told_of_jobs_that_have_them(tmp_path):
    """Another test beside this one may kill a rank of an MPI world that has just begun."""
    patterns = segments_of_transports()
    assert not patterns["tcp"]
    pattern = next(iter(patterns["shm"] or patterns["mpi"]))
    assert is_named(f"{FOLDER}/{pattern.replace('*', '0')}", [pattern])
    assert not is_named(f"{FOLDER}/{pattern.replace('*', '0')}", ["another_*"])
    jobs = [tmp_path / name for name in ("one", "two", "three")]
    for job, text in zip(jobs, ('{"resolved": {"tables": {"job": {"comm": ["shm", "tcp"]}}}}', "{", "{}"), strict=True):
        job.mkdir()
        (job / "record.json").write_text(text)
    assert transports_of(jobs[:1]) == {"shm", "tcp"}
    for unknown in (*jobs[1:], tmp_path / "none"):
        assert transports_of([jobs[0], unknown]) >= {"shm", "tcp", "mpi"}
    assert transports_of([]) == set()
