"""Faulty implementations, one module per kind of plugin, that the conformance suites must reject."""

from __future__ import annotations

import functools
from typing import Any

import pytest


def rejecting(suite: type, wanted: str) -> type:
    """A suite of one test: that ``wanted``, run on a mutant, fails. It passes when the mutant is rejected."""
    test = getattr(suite, wanted)

    @functools.wraps(test)
    def rejected(self: Any, *args: Any, **kwargs: Any) -> None:
        with pytest.raises((Exception, pytest.fail.Exception)):
            test(self, *args, **kwargs)

    members = {name: None for name in dir(suite) if name.startswith("test_")}
    return type(suite.__name__, (suite,), {**members, wanted: rejected})
