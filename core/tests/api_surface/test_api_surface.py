"""The recorded surface of the contracts: a change shows in review, and interface versions are changed with it."""

from __future__ import annotations

import difflib
import importlib.util
import json
from pathlib import Path

import pytest

from twister2.spec.plugin import KINDS

HERE = Path(__file__).parent
COMMAND = "python core/tests/api_surface/record.py"

_spec = importlib.util.spec_from_file_location("record_api_surface", HERE / "record.py")
record = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(record)
RECORDS = record.records()


@pytest.mark.parametrize("name", RECORDS)
def test_the_contracts_are_as_recorded(name):
    path = HERE / name
    recorded = path.read_text(encoding="utf-8") if path.exists() else ""
    change = "\n".join(
        difflib.unified_diff(recorded.splitlines(), RECORDS[name].splitlines(), "recorded", "now", lineterm="", n=1)
    )
    assert not change, f"twister2.spec.{path.stem} changed; if that is meant, run: {COMMAND}\n{change}"


def test_nothing_is_recorded_of_modules_that_are_gone():
    assert {path.name for path in HERE.glob("*.txt")} == set(RECORDS)


def changed_under_the_same_version(parts, released, now):
    """Kinds with the version that they were released with, and the modules of theirs that are not as released."""
    old, new = released["surfaces"], now["surfaces"]
    changed = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    found = {}
    for kind, version in now["versions"].items():
        mine = [name for name in changed if kind in parts.get(name, ())]
        if mine and released["versions"].get(kind) == version:
            found[kind] = mine
    return found


def test_a_changed_interface_has_another_version_than_the_released_one():
    released = json.loads(record.RELEASED.read_text(encoding="utf-8"))
    found = changed_under_the_same_version(record.interfaces(record.sources()), released, record.fingerprints())
    assert not found, (
        "raise the interface version of these kinds in twister2.spec.plugin.KINDS (the minor for additions with a "
        f"default, the major for anything else), and run: {COMMAND}\nsince the last release changed: {found}"
    )


def test_versions_only_grow():
    released = json.loads(record.RELEASED.read_text(encoding="utf-8"))["versions"]
    smaller = {
        kind: (before, KINDS[kind].api)
        for kind, before in released.items()
        if kind in KINDS and KINDS[kind].api < tuple(map(int, before.split(".")))
    }
    assert not smaller


@pytest.mark.parametrize(
    ("surfaces", "versions", "found"),
    [
        ({"sched": "a", "plan": "b"}, {"sched": "1.0", "exec": "1.0"}, {}),
        ({"sched": "new", "plan": "b"}, {"sched": "1.0", "exec": "1.0"}, {"sched": ["sched"]}),
        ({"sched": "new", "plan": "b"}, {"sched": "1.1", "exec": "1.0"}, {}),
        ({"sched": "a", "plan": "new"}, {"sched": "1.1", "exec": "1.0"}, {"exec": ["plan"]}),
        ({"sched": "a", "plan": "b", "more": "c"}, {"sched": "1.0", "exec": "1.0"}, {"sched": ["more"]}),
    ],
    ids=["nothing", "own-module", "raised", "shared-module", "new-module"],
)
def test_what_must_be_raised(surfaces, versions, found):
    parts = {"sched": ["sched"], "plan": ["exec", "sched"], "more": ["sched"]}
    released = {"surfaces": {"sched": "a", "plan": "b"}, "versions": {"sched": "1.0", "exec": "1.0"}}
    assert changed_under_the_same_version(parts, released, {"surfaces": surfaces, "versions": versions}) == found


def test_a_module_belongs_to_the_interfaces_that_import_it():
    parts = record.interfaces(record.sources())
    assert parts["sched"] == ["sched"]
    assert {"exec", "sched"} <= {*parts["plan"]}
    assert {"exec", "ops"} <= {*parts["network"]}
    assert parts["hashing"] == parts["plugin"] == []


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
