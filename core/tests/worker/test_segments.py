"""Left-over shared memory goes only when nobody uses it."""

from __future__ import annotations

import mmap
import os
import pathlib
import subprocess
import sys
import tempfile

import pytest

from twister2.worker.segments import Segments

HOLD = {
    "open": "file = open(sys.argv[1], 'r+b')",
    "mapped": "file = open(sys.argv[1], 'r+b'); m = mmap.mmap(file.fileno(), 4096); file.close(); m[:1]",
}


@pytest.fixture
def tmp_path():
    """In memory, as what is swept: other file systems may show other devices in the tables of mappings."""
    with tempfile.TemporaryDirectory(prefix="sweep-", dir="/dev/shm") as folder:
        yield pathlib.Path(folder)


def make(path):
    path.write_bytes(bytes(4096))
    return path


def test_what_matches_and_nobody_uses_is_removed(tmp_path):
    swept = Segments(["lib_*", "other.*"], folder=str(tmp_path))
    gone = [make(tmp_path / "lib_1"), make(tmp_path / "other.x")]
    kept = make(tmp_path / "data"), make(tmp_path / "a_lib_1")
    assert sorted(swept.sweep()) == [str(path) for path in gone]
    assert sorted(tmp_path.iterdir()) == sorted(kept)
    assert swept.sweep() == []


@pytest.mark.parametrize("how", HOLD)
def test_what_another_process_uses_stays_until_it_ends(tmp_path, how):
    path = make(tmp_path / "lib_1")
    swept = Segments(["lib_*"], folder=str(tmp_path))
    code = f"import mmap, sys\n{HOLD[how]}\nprint(flush=True)\nsys.stdin.read()"
    user = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with user:
        assert user.stdout.readline()
        assert swept.sweep() == []
        user.kill()
        user.wait()
    assert swept.sweep() == [str(path)]


def test_what_this_process_has_mapped_stays(tmp_path):
    path = make(tmp_path / "lib_1")
    swept = Segments(["lib_*"], folder=str(tmp_path))
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 4096):
        assert swept.sweep() == []
    assert swept.sweep() == [str(path)]


def test_what_is_older_or_another_users_or_no_file_stays(tmp_path, monkeypatch):
    make(tmp_path / "lib_old")
    (tmp_path / "lib_folder").mkdir()
    (tmp_path / "lib_link").symlink_to(make(tmp_path / "target"))
    swept = Segments(["lib_*"], folder=str(tmp_path))
    swept._since += 60
    assert swept.sweep() == []
    swept._since -= 120
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    assert swept.sweep() == []
    monkeypatch.undo()
    assert swept.sweep() == [str(tmp_path / "lib_old")]


def test_nothing_is_removed_when_users_may_be_hidden(tmp_path, monkeypatch):
    path = make(tmp_path / "lib_1")
    swept = Segments(["lib_*"], folder=str(tmp_path))
    monkeypatch.setattr(os, "readlink", {"/proc/self/ns/ipc": "ipc:[4026531839]", "/proc/self/ns/pid": "pid:[1]"}.get)
    assert swept.sweep() == []
    assert path.exists()


def test_without_patterns_nothing_is_looked_at(tmp_path):
    assert Segments([], folder=str(tmp_path / "none")).sweep() == []
    assert Segments(["lib_*"], folder=str(tmp_path / "none")).sweep() == []
