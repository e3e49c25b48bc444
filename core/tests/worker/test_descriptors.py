"""Who has run out of descriptors: the program, or code of ours."""

from __future__ import annotations

import errno
import resource
from typing import Any

import pytest

from twister2.spec.errors import ResourceError, ResourcesExceededError, UserCodeError
from twister2.worker import descriptors
from twister2.worker.program import user_error


def raised_in(module: str) -> OSError:
    """An error that Python's own code raised for a function of this module."""
    scope: dict[str, Any] = {"__name__": "subprocess"}
    exec(f"def inner():\n    raise OSError({errno.EMFILE}, 'Too many open files')", scope)
    caller: dict[str, Any] = {"__name__": module, "inner": scope["inner"]}
    exec("def outer():\n    inner()", caller)
    with pytest.raises(OSError, match="Too many") as caught:
        caller["outer"]()
    return caught.value


def test_code_of_ours_does_not_blame_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors, "limit", lambda: 77)
    error = user_error(raised_in("twister2_comm_tcp.transport"), "running", worker=3)
    assert type(error) is ResourceError
    assert "worker 3" in error.what
    assert "77" in error.what
    assert "ulimit -n" in error.remedy


def test_the_program_is_told_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors, "limit", lambda: 77)
    error = user_error(raised_in("__mp_main__"), "running", worker=3)
    assert type(error) is UserCodeError
    assert "it is 77" in error.remedy


def test_what_cannot_start_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors, "raised_limit", lambda: 30)
    descriptors.check_limit(6)
    with pytest.raises(ResourcesExceededError, match=r"30 files open.*7 workers"):
        descriptors.check_limit(7)
    monkeypatch.setattr(descriptors, "raised_limit", lambda: -1)  # no limit
    descriptors.check_limit(100_000)


@pytest.mark.parametrize(
    ("now", "raised"),
    [((40, 40), 40), ((40, 4096), 4096), ((1024, -1), 1 << 16), ((100_000, 1 << 20), 100_000), ((-1, -1), -1)],
)
def test_the_limit_is_raised_as_far_as_it_may(
    monkeypatch: pytest.MonkeyPatch, now: tuple[int, int], raised: int
) -> None:
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda what: now)
    monkeypatch.setattr(resource, "setrlimit", lambda what, limits: given.append(limits))
    descriptors.raise_limit()
    assert given == [(raised, now[1])]
    if raised == 40:
        with pytest.raises(ResourcesExceededError, match="40 files open"):
            descriptors.check_limit(17)
    else:
        descriptors.check_limit(1000)
