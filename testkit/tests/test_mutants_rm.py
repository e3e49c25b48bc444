"""The suite for resource managers accepts a sound one and rejects each mutant, in the test that is there for it."""

from __future__ import annotations

import pytest

from twister2_testkit.mutants.rm import MUTANTS, Sound, suite_of


class TestSound(suite_of(Sound)):
    timeout_s = 30.0


for _name in [name for name in dir(TestSound) if name.startswith("test_") and name not in MUTANTS.values()]:
    setattr(TestSound, _name, None)  # the whole suite runs in test_hostile.py


def rejected(mutant, wanted):
    suite = suite_of(mutant)
    members = {name: None for name in dir(suite) if name.startswith("test_") and name != wanted}
    return pytest.mark.xfail(strict=True, reason="a mutant")(type(f"Test{mutant.__name__}", (suite,), members))


for _mutant, _wanted in MUTANTS.items():
    globals()[f"Test{_mutant.__name__}"] = rejected(_mutant, _wanted)
