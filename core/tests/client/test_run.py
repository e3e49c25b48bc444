"""``twister2.run``: what it does to the caller's interpreter."""

from __future__ import annotations

import gc
from types import SimpleNamespace
from typing import Any

import pytest

from twister2.client import run as module
from twister2.spec.errors import UsageError


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("fails", [False, True])
def test_cycles_are_looked_for_as_before(monkeypatch: pytest.MonkeyPatch, enabled: bool, fails: bool) -> None:
    """Not while everything is imported; from the moment on in which the job runs as the caller has set it."""
    seen: list[bool] = []

    def follow() -> Any:
        seen.append(gc.isenabled())
        return SimpleNamespace(state=SimpleNamespace(value="completed"), results={})

    def submitted(*_: object) -> Any:
        seen.append(gc.isenabled())
        if fails:
            raise UsageError("no", why="a test", remedy="none")
        return SimpleNamespace(follow=follow)

    monkeypatch.setattr(module, "_submitted", submitted)
    before = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        if fails:
            with pytest.raises(UsageError):
                module.run(print)
        else:
            assert module.run(print) == []
        assert seen == [False] if fails else [False, enabled]
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()
