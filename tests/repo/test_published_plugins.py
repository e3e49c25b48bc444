"""The plugins that errors recommend are those of this repository."""

from __future__ import annotations

import tomllib
from pathlib import Path

from twister2.host.published import PUBLISHED
from twister2.host.records import distribution_name

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"


def test_the_list_is_what_is_in_the_repository() -> None:
    found: dict[str, set[str]] = {kind: set() for kind in PUBLISHED}
    for path in PLUGINS.glob("*/pyproject.toml"):
        project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        for group, entries in project["entry-points"].items():
            kind = group.removeprefix("twister2.")
            for name in entries:
                assert distribution_name(kind, name) == project["name"]
                found[kind].add(name)
    assert {kind: set(names) for kind, names in PUBLISHED.items()} == found
