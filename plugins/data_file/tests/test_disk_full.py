"""A full disk while writing: a clear error, nothing committed is harmed, nothing temporary is left."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from twister2.spec.errors import DataAccessError
from twister2_data_file import stores

SIZE = 2 << 20


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)], check=True, timeout=10)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True, timeout=10)


def fill(files, folder, format):
    """Write until the disk is full; random text, so that nothing compresses it away."""
    batches = ([os.urandom(50).hex() for _ in range(1000)] for _ in range(1000))
    with pytest.raises(DataAccessError) as caught:
        files.write(folder, format, batches, key="job-2/1/sink")
    return caught.value


@pytest.mark.needs_mount
@pytest.mark.parametrize("format", ["text", "csv", "json", "parquet", "arrow"])
def test_full_disk(files, small_disk, format):
    files.write(small_disk / "before", "text", [["kept"]])
    error = fill(files, small_disk / "out", format)
    assert str(small_disk / "out") in error.what
    assert "No space left" in error.what
    assert f"of {SIZE:,} bytes are free" in error.why
    assert error.details["errno"] == errno.ENOSPC
    assert files.read(small_disk / "before") == ["kept"]
    assert os.listdir(small_disk) == ["before"]


LIMITED = """
import os, resource, signal, sys
from twister2.spec.data import WriteRequest
from twister2.spec.errors import DataAccessError
from twister2_data_file.backend import FileBackend
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
writer = FileBackend().create_writer(WriteRequest(sys.argv[1] + "/out", sys.argv[2], 0, 1, 1, "job/1/sink"))
try:
    for _ in range(100):
        writer.write([os.urandom(50).hex() for _ in range(1000)])
    writer.prepare(1)
except DataAccessError as error:
    assert all(words in str(error) for words in ("File too large", "are free there", "ulimit -f")), str(error)
    writer.close()
    print(os.listdir(sys.argv[1]))
"""


@pytest.mark.parametrize("format", ["text", "csv", "json", "parquet", "arrow"])
def test_largest_file_size(tmp_path, format):
    command = [sys.executable, "-W", "ignore", "-c", LIMITED, str(tmp_path), format]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


@pytest.mark.parametrize("step", ["sync", "replace"])
def test_disk_full_in_prepare(files, tmp_path, monkeypatch, step):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(stores.LocalStore, step, full)
    with pytest.raises(DataAccessError, match="No space left"):
        files.write(tmp_path / "out", "text", [["x"]])
    assert os.listdir(tmp_path) == []


def test_no_permission(files, tmp_path, monkeypatch):
    def refused(*_args, **_kwargs):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "makedirs", refused)
    with pytest.raises(DataAccessError, match="Permission denied"):
        files.write(tmp_path / "out", "text", [["x"]])
