"""The Containerfile, as far as it can be checked without an engine: what it installs is what this repository has."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

PLUGIN = Path(__file__).parents[1]
PROJECT = tomllib.loads((PLUGIN.parents[1] / "pyproject.toml").read_text())["project"]
TEXT = (PLUGIN / "Containerfile").read_text()
ARGS = dict(re.findall(r"^ARG (\w+)=(\S+)$", TEXT, re.MULTILINE))


def test_it_names_this_version_an_extra_that_there_is_and_a_python_that_will_do():
    assert ARGS["TWISTER2"] == PROJECT["version"]
    (extra,) = re.findall(r"pip install .*twister2\[(\w+)\]==\$\{TWISTER2\}", TEXT)
    own = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]["name"]
    assert [text.split(">")[0] for text in PROJECT["optional-dependencies"][extra]] == [own]
    oldest = PROJECT["requires-python"].removeprefix(">=")
    assert tuple(map(int, ARGS["PYTHON"].split("."))) >= tuple(map(int, oldest.split(".")))
    assert set(re.findall(r"\$\{(\w+)\}", TEXT)) == set(ARGS)


def test_the_guide_shows_how_it_is_built_with_its_own_words():
    guide = (PLUGIN.parents[1] / "docs" / "guide" / "kubernetes.md").read_text()
    assert "podman build -t registry.example/team/job:1" in guide
    assert "podman build -t registry.example/team/job:1" in TEXT
