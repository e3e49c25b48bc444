"""Every plugin of the repository passes the hygiene checks of the test kit."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from twister2_testkit.hygiene import CHECKS

PLUGINS = sorted((Path(__file__).resolve().parents[2] / "plugins").glob("*/pyproject.toml"))
NAMES = [tomllib.loads(path.read_text(encoding="utf-8"))["project"]["name"] for path in PLUGINS]


@pytest.mark.parametrize("distribution", NAMES)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_hygiene(distribution, check):
    problems = list(check(distribution))
    assert not problems, "\n".join(problems)


def test_there_are_plugins():
    assert len(NAMES) >= 10
