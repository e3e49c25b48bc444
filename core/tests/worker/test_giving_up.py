"""A supervisor that cannot go on once it was let in."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from twister2.spec.errors import MasterLostError, PackageError, Twister2Error
from twister2.worker import supervisor
from twister2.worker.slotfolder import SlotFolder


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PackageError("damaged", why="w", remedy="r"), ["failed", "bye"]),
        (MasterLostError("no answer to 'package'", why="w", remedy="r"), ["bye"]),
    ],
)
def test_nothing_is_left_and_who_is_there_hears_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Twister2Error, said: list[str]
) -> None:
    monkeypatch.setattr(supervisor, "end_leftovers", lambda *_, **__: None)
    told: list[str] = []
    fork_server: Any = SimpleNamespace(end=lambda: told.append("fork server"))
    made = supervisor.Supervisor(0, "", fork_server)
    made._dialer = SimpleNamespace(  # type: ignore[assignment]
        send=lambda kind, body, blobs=(): told.append(kind), close=lambda linger_s: None
    )
    made._welcome = {"attempt": 1}
    (tmp_path / "job").mkdir()
    made._folder = SlotFolder(tmp_path / "job", 0)
    made.give_up(error)
    assert [word for word in told if word != "fork server"] == said
    assert "fork server" in told
    assert not (tmp_path / "job").exists()
    made.give_up(error)  # nobody is there any more
