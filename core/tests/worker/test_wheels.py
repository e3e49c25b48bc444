"""The folder of unpacked wheels: what is used longest ago goes, what somebody uses stays."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zipfile

import pytest

from twister2.worker import wheels

HOLDS = """
import pathlib, sys
from twister2.worker.wheels import _hold
assert _hold(pathlib.Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def unpacked(root, name, size, age_s):
    (root / name).mkdir()
    (root / name / "module.py").write_bytes(b"#" * size)
    then = time.time() - age_s
    os.utime(root / name, (then, then))


def names(root):
    return {path.name for path in root.iterdir()}


def test_what_was_used_longest_ago_goes(tmp_path):
    for number in range(5):
        unpacked(tmp_path, f"w{number}", 100, 10 * number)
    wheels.trim(tmp_path, 300)
    assert names(tmp_path) == {"w0", "w1", "w2"}
    wheels.trim(tmp_path, 300)
    assert names(tmp_path) == {"w0", "w1", "w2"}


def test_what_a_process_uses_stays_until_it_ends(tmp_path):
    unpacked(tmp_path, "old", 100, 1000)
    holding = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path / "old")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holding.stdout.readline() == "held\n"
        wheels.trim(tmp_path, 0)
        assert names(tmp_path) == {"old"}
    finally:
        holding.communicate(timeout=60)
    wheels.trim(tmp_path, 0)
    assert names(tmp_path) == set()


def test_what_killed_processes_have_begun_goes_and_what_is_being_made_stays(tmp_path):
    unpacked(tmp_path, "unpacking-dead", 1, 2 * wheels.LEFT_S)
    unpacked(tmp_path, "unpacking-now", 1, 0)
    wheels.trim(tmp_path)
    assert names(tmp_path) == {"unpacking-now"}


def test_one_that_was_removed_meanwhile_is_unpacked_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(wheels, "_held", held := [])
    archive = tmp_path / "kit-1-py3-none-any.whl"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("kit.py", "VALUE = 1\n")
    real, removed = wheels._unpack, []

    def unpack(wheel, folder):
        real(wheel, folder)
        if not removed:
            removed.append(folder)
            wheels._remove(folder)

    monkeypatch.setattr(wheels, "_unpack", unpack)
    try:
        folder = wheels._unpacked(archive, "abc")
        assert (folder / "kit.py").read_text() == "VALUE = 1\n"
        assert removed == [folder]
        wheels.trim(wheels.cache(), 0)
        assert names(wheels.cache()) == {"abc"}, "it is in use here"
    finally:
        for number in held:
            os.close(number)


def test_a_cache_that_cannot_be_read_is_left_alone(tmp_path):
    wheels.trim(tmp_path / "none", 0)
    (tmp_path / "file").touch()
    wheels.trim(tmp_path, 0)
    assert names(tmp_path) == {"file"}


@pytest.mark.parametrize("missing", ["nothing", "here/neither"])
def test_nothing_is_held_that_is_not_there(tmp_path, missing):
    assert not wheels._hold(tmp_path / missing)
