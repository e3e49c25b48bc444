"""State that cannot be read back is an error of ours, which says what to do."""

from __future__ import annotations

import pickle
from types import SimpleNamespace
from typing import Any

import pytest

from twister2.spec.errors import ResourceError, StateError, StepAbortedError, UsageError
from twister2.worker.variables import Variables

GONE = b"cno_such_module\nThing\n."


@pytest.mark.parametrize("data", [b"", b"\x80\x05damaged", pickle.dumps([1]), GONE, pickle.dumps({"x": 1})[:-3]])
def test_a_damaged_or_incompatible_checkpoint(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    env: Any = SimpleNamespace(start_facts=SimpleNamespace(checkpoint=3))
    variables = Variables(env)
    monkeypatch.setattr(variables, "_get", lambda part: data)
    with pytest.raises(StateError, match="cannot be read back: replicated") as caught:
        variables._unpickle("replicated")
    assert "submit the job again" in caught.value.remedy


@pytest.mark.parametrize("error", [StepAbortedError, ResourceError, ConnectionResetError])
def test_a_store_that_cannot_be_asked_is_not_a_damaged_checkpoint(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    raised = error("no answer") if error is ConnectionResetError else error("no answer", why="it", remedy="none")
    env: Any = SimpleNamespace(start_facts=SimpleNamespace(checkpoint=3))
    variables = Variables(env)

    def get(part: str) -> bytes:
        raise raised

    monkeypatch.setattr(variables, "_get", get)
    with pytest.raises(error) as caught:
        variables._unpickle("replicated")
    assert caught.value is raised


def test_a_scope_that_there_is_not() -> None:
    env: Any = SimpleNamespace(start_facts=SimpleNamespace(checkpoint=0))
    scope: Any = "foo"
    with pytest.raises(UsageError, match="there is no scope 'foo'") as caught:
        Variables(env).declare("k", 0, scope)
    assert "'replicated'" in caught.value.why
    assert "'worker'" in caught.value.why
