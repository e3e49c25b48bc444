"""The folders of a slot's copies on one host: none removes what is another's, nothing of the dead stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from twister2.spec.errors import ResourceError
from twister2.worker import slotfolder
from twister2.worker.slotfolder import SlotFolder

OTHER = """
import sys
from pathlib import Path
from twister2.worker.slotfolder import SlotFolder

folder = SlotFolder(Path(sys.argv[1]), int(sys.argv[2]))
(folder.path / "package").mkdir()
print(folder.path.name, flush=True)
if sys.stdin.readline():
    folder.remove()
"""


def other(job: Path, slot: int) -> tuple[subprocess.Popen[str], Path]:
    """Another copy of a slot, in a process of its own."""
    command = [sys.executable, "-c", OTHER, str(job), str(slot)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, job / process.stdout.readline().strip()


def test_a_copy_that_ends_late_leaves_the_next_one_s_folder_alone(tmp_path: Path) -> None:
    before, left = other(tmp_path, 3)
    own = SlotFolder(tmp_path, 3)
    (own.path / "package").mkdir()
    assert left.is_dir(), "the other one lives"
    before.communicate("end\n", 30)
    assert not left.exists()
    assert (own.path / "package").is_dir()
    assert own.path.stat().st_mode & 0o777 == 0o700
    own.remove()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_copy_has_left_goes_with_the_next_one_of_its_slot(tmp_path: Path) -> None:
    killed, left = other(tmp_path, 3)
    neighbour, its = other(tmp_path, 30)
    killed.kill()
    killed.communicate(timeout=30)
    assert left.is_dir()
    own = SlotFolder(tmp_path, 3)
    assert not left.exists()
    assert its.is_dir(), "of another slot"
    own.remove()
    neighbour.communicate("end\n", 30)


def test_a_folder_that_is_held_by_a_process_out_of_sight_is_not_removed(tmp_path: Path) -> None:
    """In another container that sees the same files: its process number means nothing here."""
    held, folder = other(tmp_path, 3)
    away = tmp_path / f"s3.{2**22 + os.getpid()}.0"  # no such process can be
    folder.rename(away)
    own = SlotFolder(tmp_path, 3)
    assert away.is_dir()
    own.remove()
    held.kill()
    held.communicate(timeout=30)


def test_the_job_s_folder_that_has_just_gone_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "job").mkdir()
    ways = iter([tmp_path / "gone", tmp_path / "job", tmp_path / "gone", tmp_path / "gone"])
    monkeypatch.setattr(slotfolder, "runtime_folder", lambda job_id: next(ways))
    own = SlotFolder.of_job("job-1", 3)
    assert own.path.parent == tmp_path / "job"
    own.remove()
    with pytest.raises(ResourceError, match="cannot make the folder"):
        SlotFolder.of_job("job-1", 3)


def test_what_a_process_with_the_same_number_has_left_is_not_taken_over(tmp_path: Path) -> None:
    left = tmp_path / f"s3.{os.getpid()}.0" / "package-1" / "half"
    left.mkdir(parents=True)
    left.parent.parent.chmod(0o700)
    own = SlotFolder(tmp_path, 3)
    assert list(own.path.iterdir()) == []
    own.remove()


def test_a_process_with_the_same_number_that_lives_keeps_its_folder(tmp_path: Path) -> None:
    held, folder = other(tmp_path, 3)
    same = tmp_path / f"s3.{os.getpid()}.0"
    folder.rename(same)
    own = SlotFolder(tmp_path, 3)
    assert own.path.name == f"s3.{os.getpid()}.1"
    assert (same / "package").is_dir()
    own.remove()
    held.kill()
    held.communicate(timeout=30)
