"""Tickets: secrets that do not show, waits that end."""

from __future__ import annotations

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
