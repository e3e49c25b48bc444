"""Alternating least squares as a whole job, against one process that solves row by row."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

from twister2_testkit.jobs import Jobs

pytestmark = pytest.mark.timeout(120)


def plain_factors(n_rows: int, rows: np.ndarray, columns: np.ndarray, values: np.ndarray, others: np.ndarray):
    """Ridge regression of each row by itself, as an ordinary least squares problem with rows added for the penalty."""
    found, k = [], others.shape[1]
    for row in range(n_rows):
        seen = others[columns[rows == row]]
        added = np.sqrt(0.02 * (1 + len(seen))) * np.eye(k)
        wanted = np.append(values[rows == row] - 3, np.zeros(k))
        found.append(np.linalg.lstsq(np.concatenate([seen, added]), wanted, rcond=None)[0])
    return np.array(found)


def shown_errors(out: str) -> np.ndarray:
    return np.array(re.findall(r"^ +\d+  (\d\.\d{4})  (\d\.\d{4})  #+$", out, re.MULTILINE), dtype=float)


def test_errors_are_those_of_plain_least_squares(jobs: Jobs, examples: Path, transport: tuple[str, ...]) -> None:
    args = ["--users", "40", "--items", "25", "--ratings", "500", "--factors", "3", "--iterations", "4", "--seed", "5"]
    done = jobs.submit(examples / "matrix_factorisation.py", *transport, workers=3, args=args)
    assert done.code == 0, done
    spec = importlib.util.spec_from_file_location("matrix_factorisation", examples / "matrix_factorisation.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    known, kept = example.made_ratings(example.parser().parse_args(args))
    assert (len(known.value), len(kept.value)) == (450, 50)
    items, expected = np.random.default_rng(6).normal(size=(25, 3)), []
    for _ in range(4):
        users = plain_factors(40, known.row, known.column, known.value, items)
        items = plain_factors(25, known.column, known.row, known.value, users)
        misses = [3 + (users[part.row] * items[part.column]).sum(axis=1) - part.value for part in (known, kept)]
        expected.append([np.sqrt((miss**2).mean()) for miss in misses])
    np.testing.assert_allclose(shown_errors(done.out), expected, atol=2e-4)


def test_the_noise_is_nearly_all_that_is_left(jobs: Jobs, examples: Path) -> None:
    done = jobs.python(examples / "matrix_factorisation.py")
    assert done.code == 0, done
    learnt, kept = shown_errors(done.out).T
    assert (np.diff(learnt) <= 1e-4).all(), learnt
    assert learnt[-1] < 0.22
    assert kept[-1] < 0.3 < kept[0] / 2
