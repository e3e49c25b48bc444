"""Whether the host of a silent peer still answers: see :mod:`twister2_comm_tcp.watch`."""

from __future__ import annotations

import itertools
import socket

import pytest

from twister2_comm_tcp.watch import Watch


def until_said(watch: Watch, turns: int) -> str:
    """What it says in the end, of a peer that has been silent for long; time goes on by a second each turn."""
    for turn in range(turns):
        if said := watch.gone(100.0 + turn, 10.0):
            return said
    return ""


def test_a_peer_that_listens_is_not_gone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        watch = Watch(server.getsockname(), 3.0)
        assert until_said(watch, 50) == ""
        watch.close()


def test_an_address_at_which_nobody_listens_any_more_is_told_after_its_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        target = server.getsockname()
    watch = Watch(target, 3.0)
    said = until_said(watch, 50)
    assert "nobody listens there any more" in said
    assert target[0] in said
    watch.reset()
    assert watch.gone(200.0, 0.0) == "", "it was heard again"
    watch.close()


def test_a_peer_that_is_heard_now_and_then_is_not_gone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        target = server.getsockname()
    watch = Watch(target, 3.0)
    for now in itertools.islice(itertools.count(100), 30):
        assert watch.gone(float(now), 10.0) == ""
        if now % 2:
            watch.reset()
    watch.close()


def test_the_reason_is_that_of_the_last_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused once, heard again, and then without any answer."""

    class Unanswered:
        refused = False

        def __init__(self, target: object) -> None:
            """Somewhere behind a cable that is cut."""

        def poll(self) -> None:
            return None

        def close(self) -> None:
            pass

    with socket.create_server(("127.0.0.1", 0)) as server:
        target = server.getsockname()
    watch = Watch(target, 3.0)
    assert watch.gone(100.0, 10.0) == ""
    watch.reset()
    monkeypatch.setattr("twister2_comm_tcp.watch.Knock", Unanswered)
    assert "the network between is cut" in until_said(watch, 50)
