from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twister2.spec.errors import MemoryBudgetError, SpillError
from twister2.worker import spill as spill_module
from twister2.worker.compression import compression
from twister2.worker.memory import Memory
from twister2.worker.spill import Spill, spill_for


def descriptors():
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def disks(tmp_path):
    folders = [tmp_path / name for name in ("a", "b", "c")]
    for folder in folders:
        folder.mkdir()
    return folders


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(
    st.lists(
        st.one_of(
            st.lists(st.tuples(st.text(max_size=5), st.integers()), max_size=20),
            st.integers(0, 3000).map(lambda n: numpy.arange(n, dtype="i4")),
            st.none(),
            st.binary(max_size=3000),
        ),
        max_size=8,
    ),
    st.sampled_from(["none", "zlib", "auto"]),
)
def test_what_is_written_is_read_again_as_often_as_wanted(tmp_path_factory, values, method):
    service = Spill([tmp_path_factory.mktemp("disk")], method, configured=True)
    file = service.scratch("test", 0).file()
    for value in values:
        file.append(value)
    for _ in range(2):
        for got, value in zip(file, values, strict=True):
            if isinstance(value, numpy.ndarray):
                assert got.dtype == value.dtype
                assert not got.flags.writeable
                assert got.tolist() == value.tolist()
            else:
                assert got == value
    assert len(file) == len(values)


def test_readers_do_not_disturb_each_other_nor_the_writer(disks):
    file = Spill(disks, configured=True).scratch("test", 0).file()
    for number in range(5):
        file.append([number])
    first, second = iter(file), iter(file)
    assert [next(first), next(first), next(second)] == [[0], [1], [0]]
    file.append([5])
    assert [*first] == [[2], [3], [4]]
    assert [*second] == [[1], [2], [3], [4]]
    assert [*file][-1] == [5]


def test_disks_take_turns_and_files_have_no_names(disks):
    service = Spill(disks, configured=True)
    before = descriptors()
    file = service.scratch("test", 0).file()
    for _ in range(6):
        file.append(b"x" * 5000)
    assert descriptors() == before + 3
    assert service.files == 3
    sizes = [segment.end for segment in service._open.values()]
    assert len(set(sizes)) == 1
    assert sizes[0] > 10_000
    assert [list(folder.iterdir()) for folder in disks] == [[], [], []]
    del file, service
    gc.collect()
    assert descriptors() == before


def test_space_comes_back_when_values_are_forgotten(disks, monkeypatch):
    monkeypatch.setattr(spill_module, "SEGMENT_BYTES", 10_000)
    service = Spill(disks[:1], configured=True)
    before = descriptors()
    kept, gone = service.scratch("kept", 0).file(), service.scratch("gone", 0).file()
    for number in range(30):
        (kept if number == 3 else gone).append(bytes([number]) * 5000)
    assert descriptors() == before + 15
    gone.close()
    gone.close()
    assert descriptors() == before + 2, "the segment of the value that is kept, and the one that is written to"
    assert [*kept] == [bytes([3]) * 5000]
    with pytest.raises(SpillError, match="given up"):
        list(gone)


def test_counters_and_compression(disks):
    pytest.importorskip("zlib")
    service = Spill(disks, "zlib", configured=True)
    scratch = service.scratch("test", 1 << 20)
    file = scratch.file()
    file.append(numpy.zeros(10_000))
    assert scratch.counters.values == 1
    assert scratch.counters.raw_bytes == 80_000
    assert scratch.counters.bytes == file.size == service.written < 2000
    memory = Memory(1000, spill=service)
    assert (memory.use().spilled, memory.use().spill_files) == (file.size, 1)
    assert next(iter(file)).sum() == 0


@pytest.mark.parametrize("method", ["zlib", "lz4"])
def test_methods_of_compression(method):
    if method == "lz4":
        pytest.importorskip("lz4.block", reason="the distribution lz4 is not installed")
    one = compression(method)
    text = b"abc" * 10_000
    assert len(one.pack(text)) < 1000
    assert one.unpack(memoryview(one.pack(text)), len(text)) == text
    assert one.pack(os.urandom(10_000)) is None, "what does not get smaller is left alone"
    assert one.pack(b"abc") is None


def test_an_unknown_compression():
    with pytest.raises(SpillError, match="spill_compression"):
        compression("brotli")


def test_missing_and_relative_folders_are_named_at_once(tmp_path):
    (tmp_path / "file").touch()
    for folder, why in ((tmp_path / "none", "not exist"), ("disk", "relative"), (tmp_path / "file", "no folder")):
        with pytest.raises(SpillError) as caught:
            Spill([folder], configured=True)
        assert str(folder) in str(caught.value)
        assert why in str(caught.value)
        assert "job.spill_dirs" in str(caught.value)


def test_no_folder_at_all():
    with pytest.raises(SpillError, match="spill_dirs"):
        Memory(1000).scratch("join")


def test_options(tmp_path, monkeypatch):
    monkeypatch.setenv("DISK", str(tmp_path))
    spill_for({"spill_dirs": ("$DISK",), "spill_compression": "none"}, "/nowhere").scratch("x", 0).file().append([1])
    own = tmp_path / "worker" / "volatile"
    service = spill_for({"spill_dirs": (), "spill_compression": "none"}, str(own))
    assert not own.exists()
    file = service.scratch("x", 0).file()
    file.append([1])
    assert [*own.iterdir()] == []
    assert [*file] == [[1]]


def test_a_file_system_without_nameless_files(disks, monkeypatch):
    plain = os.open

    def old(path, flags, *rest, **named):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(95, "not supported")
        return plain(path, flags, *rest, **named)

    left, fresh = disks[0] / "t2-spill-left", disks[0] / "t2-spill-fresh"
    left.touch()
    os.utime(left, (0, 0))
    fresh.touch()
    monkeypatch.setattr(spill_module.os, "open", old)
    file = Spill(disks[:1], configured=True).scratch("x", 0).file()
    file.append([1, 2])
    assert [*file] == [[1, 2]]
    assert [*disks[0].iterdir()] == [fresh], "what a process left that died in between is removed, in time"


def test_damage_is_noticed(disks):
    service = Spill(disks[:1], configured=True)
    file = service.scratch("x", 0).file()
    file.append(b"z" * 5000)
    segment = service._open[disks[0]]
    os.pwrite(segment.descriptor, b"!", 100)
    with pytest.raises(SpillError, match="checksum"):
        list(file)
    os.ftruncate(segment.descriptor, 50)
    with pytest.raises(SpillError, match="ends at byte 50"):
        list(file)


@pytest.fixture
def tiny(tmp_path):
    """A disk of 1 MiB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], timeout=10, check=True)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], timeout=10, check=True)


@pytest.mark.needs_mount
def test_a_full_disk_is_a_clear_error_and_other_disks_are_used(tiny, disks):
    service = Spill([tiny], configured=True)
    file = service.scratch("the join", 0).file()

    def fill():
        for number in range(20):
            file.append(bytes([number]) * 100_000)

    with pytest.raises(SpillError) as caught:
        fill()
    text, blocks = str(caught.value), len(file)
    assert 5 < blocks < 11
    for part in (str(tiny), "the join", "100", "No space left", "job.spill_dirs"):
        assert part in text
    assert [block[0] for block in file] == list(range(blocks)), "what was written before is whole"
    file.close()
    file = service.scratch("the join", 0).file()
    for _ in range(blocks):
        file.append(b"y" * 100_000)
    del file
    service = Spill([tiny, disks[0]], configured=True)
    file = service.scratch("the join", 0).file()
    for number in range(40):
        file.append(bytes([number]) * 100_000)
    assert [block[0] for block in file] == list(range(40))


@pytest.mark.needs_mount
def test_a_full_disk_while_memory_is_short(tiny):
    memory = Memory(1 << 20, spill=Spill([tiny], configured=True))
    held = [b"x" * 100_000] * 20

    def revoke(wanted):
        file = memory.scratch("greedy").file()
        for part in held:
            file.append(part)
        return 0

    room = memory.reserve("greedy", 900_000, revoke=revoke)
    with pytest.raises(SpillError):
        room.grow(100_000)
    assert room.size == 900_000
    with pytest.raises(SpillError):
        memory.reserve("other", 200_000)
    assert memory.use().reserved == 900_000


def test_nothing_is_left_after_a_kill(disks):
    program = (
        "import sys, os, signal\n"
        "from twister2.worker.spill import Spill\n"
        "file = Spill(sys.argv[1:], configured=True).scratch('x', 0).file()\n"
        "for _ in range(20): file.append(b'x' * 100_000)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    free = os.statvfs(disks[0]).f_bavail
    ended = subprocess.run([sys.executable, "-c", program, *map(str, disks)], timeout=30, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert [list(folder.iterdir()) for folder in disks] == [[], [], []]
    assert free > 0


def test_growth_counts_on_top_of_what_is_left_after_shrinking():
    memory = Memory(1000)
    room = memory.reserve("own", revoke=lambda wanted: room.resize(0) or 0)
    room.grow(800)
    room.grow(150)
    assert room.size == 150, "it was made to shrink to nothing first"
    room.resize(900)
    other = memory.reserve("other")
    other.grow(200)
    assert (room.size, other.size) == (0, 200)
    with pytest.raises(MemoryBudgetError):
        other.grow(801)
    assert other.size == 200
    with pytest.raises(ValueError, match="cannot grow"):
        other.grow(-201)
