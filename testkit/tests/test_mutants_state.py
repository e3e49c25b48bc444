"""The suite for state stores accepts a sound store and rejects each mutant, in the test that is there for it."""

from __future__ import annotations

import pytest

from twister2_testkit.mutants.state import MUTANTS, PlainStore, suite_of


class TestSound(suite_of(PlainStore)):
    examples = 20
    crashes = 10


def rejected(mutant, wanted):
    suite = suite_of(mutant)
    members = {name: None for name in dir(suite) if name.startswith("test_") and name != wanted}
    return pytest.mark.xfail(strict=True, reason="a mutant")(type(f"Test{mutant.__name__}", (suite,), members))


for _mutant, _wanted in MUTANTS.items():
    globals()[f"Test{_mutant.__name__}"] = rejected(_mutant, _wanted)
