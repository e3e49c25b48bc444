"""The suite for state stores accepts a sound store and rejects each mutant, in the test that is there for it."""

from __future__ import annotations

from twister2_testkit.mutants import rejecting
from twister2_testkit.mutants.state import MUTANTS, PlainStore, suite_of


class TestSound(suite_of(PlainStore)):
    examples = 20
    crashes = 10


for _mutant, _wanted in MUTANTS.items():
    globals()[f"Test{_mutant.__name__}"] = rejecting(suite_of(_mutant), _wanted)
