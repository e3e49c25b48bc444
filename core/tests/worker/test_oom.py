"""What control groups say of processes that were ended for lack of memory; as the kernel writes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from twister2.worker import oom
from twister2.worker.oom import MemoryGroup

MB = 1 << 20


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return tmp_path / "own"


def first(folder: Path, kills: int, limit: int) -> None:
    """A group of version 1."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.oom_control").write_text(f"oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n")
    (folder / "memory.stat").write_text(f"cache 4096\nhierarchical_memory_limit {limit}\ntotal_cache 4096\n")


def second(folder: Path, kills: int, limit: str) -> None:
    """A group of version 2."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.events").write_text("low 0\nhigh 0\nmax 90\noom 3\noom_kill 99\n")
    (folder / "memory.events.local").write_text(f"low 0\nhigh 0\nmax 90\noom 3\noom_kill {kills}\n")
    (folder / "memory.max").write_text(f"{limit}\n")


def test_version_1(tmp_path: Path, own: Path) -> None:
    root = tmp_path / "root"
    first(root / "memory", 0, 0x7FFFFFFFFFFFF000)
    first(root / "memory" / "job" / "w1", 2, 300 * MB)
    own.write_text("5:devices:/\n4:memory:/job/w1\n0::/\n")
    group = MemoryGroup(root, own)
    assert (group.kills(), group.limit_mb()) == (2, 300)
    first(root / "memory" / "job" / "w1", 3, 300 * MB)
    assert group.kills() == 3
    own.write_text("4:memory:/\n")
    assert (MemoryGroup(root, own).kills(), MemoryGroup(root, own).limit_mb()) == (0, 0)


def test_version_2_and_the_limits_of_the_groups_above(tmp_path: Path, own: Path) -> None:
    root = tmp_path / "root"
    second(root / "job", 1, str(200 * MB))
    second(root / "job" / "w1", 1, "max")
    (root / "cgroup.controllers").write_text("cpu memory\n")
    (tmp_path / "memory.max").write_text(str(MB))
    own.write_text("0::/job/w1\n")
    group = MemoryGroup(root, own)
    assert (group.kills(), group.limit_mb()) == (1, 200)
    second(root / "job", 1, "max")
    assert group.limit_mb() == 0


@pytest.mark.parametrize("version", [1, 2])
def test_inside_of_a_container_its_group_is_the_top(tmp_path: Path, own: Path, version: int) -> None:
    root = tmp_path / "root"
    if version == 1:
        first(root / "memory", 4, 64 * MB)
        own.write_text("4:memory:/kubepods/pod7/c1\n")
    else:
        second(root, 4, str(64 * MB))
        (root / "cgroup.controllers").write_text("memory\n")
        own.write_text("0::/kubepods/pod7/c1\n")
    group = MemoryGroup(root, own)
    assert (group.kills(), group.limit_mb()) == (4, 64)


def test_where_no_group_is_to_be_seen_the_host_counts(tmp_path: Path, own: Path) -> None:
    host = tmp_path / "vmstat"
    group = MemoryGroup(tmp_path / "nothing", own, host)
    assert (group.kills(), group.limit_mb()) == (0, 0)
    host.write_text("nr_free_pages 77\noom_kill 5\n")
    assert (group.kills(), group.limit_mb()) == (5, 0)


def test_what_was_long_ago_does_not_count(tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A neighbour in the same group, say: who is killed by somebody an hour later was not out of memory."""
    now = 1000.0
    monkeypatch.setattr(oom.time, "monotonic", lambda: now)
    root = tmp_path / "root"
    first(root / "memory", 3, 64 * MB)
    own.write_text("4:memory:/\n")
    group = MemoryGroup(root, own)
    group.note()
    assert not group.killed_lately()
    first(root / "memory", 4, 64 * MB)
    assert group.killed_lately()
    for now in (1001.0, 1020.0):  # noqa: B007 - the clock
        group.note()
        assert group.killed_lately()
    now = 1040.0
    group.note()
    assert not group.killed_lately()
    first(root / "memory", 5, 64 * MB)
    assert group.killed_lately()
    group.begin()
    assert not group.killed_lately()


def test_version_2_of_old_kernels_has_no_local_events(tmp_path: Path, own: Path) -> None:
    root = tmp_path / "root"
    second(root / "w1", 1, "max")
    (root / "w1" / "memory.events.local").unlink()
    (root / "cgroup.controllers").write_text("memory\n")
    own.write_text("0::/w1\n")
    assert MemoryGroup(root, own).kills() == 99
