"""Clusters of threads for the tests of this plugin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from twister2_harp import Harp
from twister2_testkit.fakes import LocalCluster

Run = Callable[..., list[Any]]


@pytest.fixture(params=["inproc", "tcp"])
def run(request: pytest.FixtureRequest) -> Run:
    """``run(function, n)``: results of ``function(harp)`` on n ranks, over each transport that threads can use."""

    def on(function: Callable[[Harp], Any], n: int = 3) -> list[Any]:
        return LocalCluster(n, request.param).run(lambda env: function(Harp(env)))  # type: ignore[arg-type]

    return on
