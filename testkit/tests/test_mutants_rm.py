"""The suite for resource managers accepts a sound one and rejects each mutant, in the test that is there for it."""

from __future__ import annotations

from twister2_testkit.mutants import rejecting
from twister2_testkit.mutants.rm import MUTANTS, Sound, suite_of


class TestSound(suite_of(Sound)):
    timeout_s = 30.0


for _name in [name for name in dir(TestSound) if name.startswith("test_") and name not in MUTANTS.values()]:
    setattr(TestSound, _name, None)  # the whole suite runs in test_hostile.py


for _mutant, _wanted in MUTANTS.items():
    globals()[f"Test{_mutant.__name__}"] = rejecting(suite_of(_mutant), _wanted)
