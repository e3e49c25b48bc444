"""What only the resource manager has of a job's logs."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from twister2.client import kept
from twister2.spec.errors import MissingToolError, ResourceError, SubmissionRefusedError
from twister2.spec.rm import JobHandle, LogChunk

HANDLE = JobHandle("rm", "job-1", "1")
AWAY = ResourceError("Nomad does not answer", why="refused", remedy="none")
REFUSED = SubmissionRefusedError("the token may not read logs", why="policy", remedy="none")
MISSING = MissingToolError("there is no squeue", why="it is not on PATH", remedy="none")


def manager(*tries: list[LogChunk | ResourceError]) -> Any:
    """Each time it is asked it begins at the beginning, and goes on to the end, or to an error."""
    left = list(tries)

    def logs(handle: JobHandle, *, follow: bool) -> Iterator[LogChunk]:
        for each in left.pop(0):
            if isinstance(each, ResourceError):
                raise each
            yield each

    return SimpleNamespace(logs=logs)


def a(text: str, slot: int = 0) -> LogChunk:
    return LogChunk(slot, "stdout", text)


def test_who_follows_logs_goes_on_when_the_manager_is_back(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pieces may be cut elsewhere the next time, and other sources come between."""
    monkeypatch.setattr(kept, "AGAIN_S", 0.0)
    backend = manager(
        [a("one "), a("two ", 1), AWAY], [AWAY], [a("one three "), a("tw", 1), a("o four ", 1), AWAY], [a("one three ")]
    )
    heard = [(chunk.slot, chunk.text) for chunk in kept.chunks(backend, HANDLE, follow=True)]
    assert heard == [(0, "one "), (1, "two "), (0, "three "), (1, "four ")]
    said = capsys.readouterr().err.splitlines()
    assert said == ["waiting for the resource manager: Nomad does not answer (refused)"] * 2


@pytest.mark.parametrize(("error", "follow"), [(AWAY, False), (REFUSED, True), (MISSING, True)])
def test_what_waiting_does_not_mend_is_an_error(error: ResourceError, follow: bool) -> None:
    with pytest.raises(ResourceError) as caught:
        list(kept.chunks(manager([a("one"), error]), HANDLE, follow=follow))
    assert caught.value is error
