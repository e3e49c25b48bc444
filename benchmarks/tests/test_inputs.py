from __future__ import annotations

import numpy as np
from generate import keys_of
from harness.contestants import ROOT, of_workload
from harness.sizes import TableSize
from harness.workloads import WORKLOADS

ROWS, KEYS = 100_000, 1000


def shares(exponent: float) -> np.ndarray:
    keys = keys_of(np.random.default_rng(1), TableSize(ROWS, KEYS, exponent))
    assert len(keys) == ROWS
    return np.sort(np.bincount(keys, minlength=KEYS))[::-1] / ROWS


def test_keys_without_skew_are_all_alike_often() -> None:
    found = shares(0)
    assert len(found) == KEYS
    assert found[0] < 2 / KEYS


def test_skewed_keys_follow_the_law_of_zipf() -> None:
    found, law = shares(1.05), 1 / np.arange(1, KEYS + 1) ** 1.05
    assert len(found) == KEYS
    np.testing.assert_allclose(found[:5], law[:5] / law.sum(), rtol=0.05)


def test_all_contestants_describe_themselves() -> None:
    venvs = {path.stem for path in (ROOT / "requirements").glob("*.txt")}
    for workload, described in WORKLOADS.items():
        contestants = of_workload(workload, [])
        assert described.reference in {contestant.system for contestant in contestants}
        assert {contestant.venv for contestant in contestants} <= venvs
        assert all(contestant.command(size="small", workers=2, spawned=0.0) for contestant in contestants)
