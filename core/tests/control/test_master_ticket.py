"""The job master's ticket: a package goes with it where there is room."""

from __future__ import annotations

import os

import pytest

from twister2.control.master_ticket import MasterTicket

TICKET = MasterTicket(
    job_id="job-1",
    name="größe",
    folder="/state/jobs/job-1",
    runtime_dir="",
    listen=("tcp://*",),
    in_client=False,
    detached=True,
    master_public="public",
    master_secret="secret-1",
    client_key="secret-2",
    join_key="secret-3",
    resolved={"job": {"workers": 2}},
    pins={},
    groups=[],
    has_package=False,
)


def test_round_trip_and_nothing_secret_in_the_text() -> None:
    ticket = TICKET.with_package(b"a secret program", 10_000)
    assert MasterTicket.decode(ticket.encode()) == ticket
    assert "secret" not in repr(ticket)
    assert ticket.packed not in repr(ticket)


@pytest.mark.parametrize("package", [b"def main(env): pass\n" * 100, os.urandom(2000)])
def test_a_package_is_in_it_as_long_as_there_is_room(package: bytes) -> None:
    made = TICKET.with_package(package, 10_000)
    assert MasterTicket.decode(made.encode()).unpacked() == package
    room = len(made.encode())
    assert TICKET.with_package(package, room) == made
    assert TICKET.with_package(package, room - 1) == TICKET
    assert TICKET.unpacked() == b""


def test_what_is_far_too_large_is_not_even_tried() -> None:
    """It may be gigabytes of wheels, which are compressed already."""
    assert TICKET.with_package(bytes(10_000), 2_000) == TICKET
    assert TICKET.with_package(bytes(10_000), 0) == TICKET
