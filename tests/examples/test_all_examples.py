"""What holds for every example: it says how to use it, and the page about examples lists it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from unittest import mock

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted(path.name for path in (ROOT / "examples").iterdir() if path.suffix in {".py", ".ipynb"})
OUTPUT = {"terasort.py": ["--output", "sorted"]}
OBVIOUS = {"seed", "points", "dimensions", "clusters", "iterations", "size", "method", "epochs", "samples", "records"}
OBVIOUS |= {"features", "users", "items", "factors", "how"}
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


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name.endswith(".py") and name != "hello.py"])
def test_an_example_has_help_with_all_of_its_options(name: str) -> None:
    spec = importlib.util.spec_from_file_location(f"example_{name[:-3]}", ROOT / "examples" / name)
    example = importlib.util.module_from_spec(spec)
    with mock.patch.dict("sys.modules", {spec.name: example}):
        spec.loader.exec_module(example)
    parser = example.parser()
    assert parser.prog == name
    assert parser.description
    assert (
        parser.parse_args([*(["a"] if name == "wordcount.py" else []), "--workers", "3", *OUTPUT.get(name, [])]).workers
        == 3
    )
    unclear = [action.dest for action in parser._actions if not action.help and action.dest not in OBVIOUS]
    assert not unclear
