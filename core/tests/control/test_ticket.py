"""Tickets: secrets that do not show, waits that end."""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path

import pytest

from twister2.control.ticket import Ticket, curve_pair, new_key, wait_for_ticket, write_private
from twister2.spec.errors import DeadlineError, JobFailedError

TICKET = Ticket("job-1", 1, ("tcp://10.0.0.1:5000",), curve_pair()[0], "a secret")


def test_round_trip_and_nothing_secret_in_the_text() -> None:
    assert Ticket.decode(TICKET.encode()) == TICKET
    assert "a secret" not in repr(TICKET)
    assert new_key() != new_key()


def test_private_files_are_private_and_whole(tmp_path: Path) -> None:
    os.umask(os.umask(0))
    write_private(tmp_path / "x", b"1")
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o600
    with pytest.raises((JobFailedError, OSError)):
        write_private(tmp_path / "nothing" / "x", b"1")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_what_is_durable_is_synced_before_it_is_seen_and_its_folders_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "job" / "record"
    path.parent.mkdir()
    synced: list[tuple[str, str]] = []
    monkeypatch.setattr(
        os,
        "fsync",
        lambda number: synced.append((os.readlink(f"/proc/self/fd/{number}"), sorted(os.listdir(path.parent))[0])),
    )
    write_private(path, b"1")
    assert synced == []
    path.unlink()
    write_private(path, b"1", durable=True)
    temporary = f"record.{os.getpid()}.new"
    assert synced == [
        (str(path.parent / temporary), temporary),
        (str(path.parent), "record"),
        (str(tmp_path), "record"),
    ]
    assert path.read_bytes() == b"1"


def test_a_file_system_that_syncs_no_folders_will_do_and_a_disk_that_fails_will_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    def sync(number: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{number}"):
            raise error

    monkeypatch.setattr(os, "fsync", sync)
    write_private(tmp_path / "x", b"1", durable=True)
    assert (tmp_path / "x").read_bytes() == b"1"
    error = OSError(errno.EIO, os.strerror(errno.EIO))
    with pytest.raises(JobFailedError, match=r"cannot write .*/x\b"):
        write_private(tmp_path / "x", b"2", durable=True)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "the ticket is not there"),
        (b"", "cannot be read"),
        (b"{", "cannot be read"),
        (b"{}", "cannot be read"),
        (Ticket("j", 1, (), "k", "s").encode(), "no address"),
        (Ticket("j", 1, ("tcp://x:1",), "k", "s").encode(), "no newer attempt"),
    ],
)
def test_a_wait_has_a_deadline_and_says_why(tmp_path: Path, content: bytes | None, why: str) -> None:
    path = tmp_path / "ticket"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DeadlineError) as caught:
        wait_for_ticket(str(path), older_than=1 if "newer" in why else 0, deadline_s=0.1)
    assert why in str(caught.value)


def test_a_ticket_that_comes_later_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "ticket"

    def bring() -> None:
        time.sleep(0.1)
        write_private(path, TICKET.encode())

    thread = threading.Thread(target=bring)
    thread.start()
    assert wait_for_ticket(str(path), older_than=0, deadline_s=10.0) == TICKET
    thread.join()
