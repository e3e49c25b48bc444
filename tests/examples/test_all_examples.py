"""What holds for every example: it says how to use it, and the page about examples lists it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted(path.name for path in (ROOT / "examples").iterdir() if path.suffix in {".py", ".ipynb"})
PAGE = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")


def test_the_page_lists_the_examples_that_exist() -> None:
    assert sorted(set(re.findall(r"^\| `(\w+\.\w+)`", PAGE, re.MULTILINE))) == EXAMPLES


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name.endswith(".py")])
def test_an_example_says_how_to_run_it_both_ways_and_is_short(name: str) -> None:
    text = (ROOT / "examples" / name).read_text(encoding="utf-8")
    assert "\ntwister2 submit standalone --workers " in text.split('"""')[1]
    assert f"\npython examples/{name}" in text.split('"""')[1]
    assert 'if __name__ == "__main__":\n' in text
    assert len(text.splitlines()) <= 150
