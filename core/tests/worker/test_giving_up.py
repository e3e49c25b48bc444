"""A supervisor that cannot go on once it was let in."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from twister2.spec.errors import MasterLostError, PackageError, Twister2Error
from twister2.worker import supervisor
from twister2.worker.slotfolder import SlotFolder

FAILURES = pytest.mark.parametrize(
    ("error", "said"),
    [
        (PackageError("damaged", why="w", remedy="r"), ["failed", "bye"]),
        (MasterLostError("no answer to 'package'", why="w", remedy="r"), ["bye"]),
    ],
)


def let_in(folder: Path, told: list[str]) -> supervisor.Supervisor:
    """A supervisor that has joined, and what it says."""
    fork_server: Any = SimpleNamespace(end=lambda: told.append("fork server"))
    made = supervisor.Supervisor(0, "", fork_server)
    made._dialer = dialer(told)
    made._welcome = {"attempt": 1}
    folder.mkdir()
    made._folder = SlotFolder(folder, 0)
    return made


def dialer(told: list[str]) -> Any:
    return SimpleNamespace(send=lambda kind, body, blobs=(): told.append(kind), close=lambda linger_s=0.0: None)


@FAILURES
def test_nothing_is_left_and_who_is_there_hears_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Twister2Error, said: list[str]
) -> None:
    monkeypatch.setattr(supervisor, "end_leftovers", lambda *_, **__: None)
    told: list[str] = []
    made = let_in(tmp_path / "job", told)
    made.give_up(error)
    assert [word for word in told if word != "fork server"] == said
    assert "fork server" in told
    assert not (tmp_path / "job").exists()
    made.give_up(error)  # nobody is there any more


@FAILURES
def test_a_master_that_was_started_again_hears_why_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Twister2Error, said: list[str]
) -> None:
    def fails(blobs: tuple[bytes, ...]) -> None:
        raise error

    monkeypatch.setattr(supervisor, "end_leftovers", lambda *_, **__: None)
    before: list[str] = []
    now: list[str] = []
    made = let_in(tmp_path / "job", before)
    ticket = SimpleNamespace(attempt=2, join_key="key")
    welcome = SimpleNamespace(kind="welcome", body={"attempt": 2, "standby": False}, blobs=())
    monkeypatch.setattr(supervisor, "wait_for_ticket", lambda *_, **__: ticket)
    monkeypatch.setattr(supervisor, "say_hello", lambda *_: (dialer(now), welcome))
    monkeypatch.setattr(made, "_begin_attempt", fails)
    with pytest.raises(type(error)):
        made._joined_again()
    made.give_up(error)  # as whoever runs it does
    assert (before, now) == (["fork server"], said)
    assert not (tmp_path / "job").exists()


def test_who_is_not_let_in_again_leaves_nothing_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise MasterLostError("no ticket", why="w", remedy="r")

    monkeypatch.setattr(supervisor, "end_leftovers", lambda *_, **__: None)
    told: list[str] = []
    made = let_in(tmp_path / "job", told)
    monkeypatch.setattr(supervisor, "wait_for_ticket", fails)
    with pytest.raises(MasterLostError):
        made._joined_again()
    assert told == ["fork server"]
    assert not (tmp_path / "job").exists()
