"""The recorded surface of the contracts: a change shows in review, and interface versions are changed with it."""

from __future__ import annotations

import difflib
import importlib.util
from pathlib import Path

import pytest

HERE = Path(__file__).parent
COMMAND = "python core/tests/api_surface/record.py"

_spec = importlib.util.spec_from_file_location("record_api_surface", HERE / "record.py")
record = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(record)
SURFACES = record.surfaces()


@pytest.mark.parametrize("name", SURFACES)
def test_the_contracts_are_as_recorded(name):
    path = HERE / name
    recorded = path.read_text(encoding="utf-8") if path.exists() else ""
    change = "\n".join(
        difflib.unified_diff(recorded.splitlines(), SURFACES[name].splitlines(), "recorded", "now", lineterm="", n=1)
    )
    assert not change, f"twister2.spec.{path.stem} changed; if that is meant, run: {COMMAND}\n{change}"


def test_nothing_is_recorded_of_modules_that_are_gone():
    assert {path.name for path in HERE.glob("*.txt")} == set(SURFACES)


def test_the_recorder_sees_what_matters():
    text = record.surface(
        "import x\nA: int = 1\n_B = 2\n@deco\nclass C(Base):\n  'doc'\n  f: str\n"
        "  def m(self, a: int = 3) -> str:\n    return 1\n"
        "  def _n(self): ...\ndef g(*, k): ...\n"
    )
    assert text.splitlines() == [
        "A: int = 1",
        "@deco",
        "class C(Base)",
        "    f: str",
        "    def m(self, a: int=3) -> str",
        "def g(*, k)",
    ]
