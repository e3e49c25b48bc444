"""The examples on Harp, as whole jobs, with answers computed in another way."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from twister2_testkit.jobs import Jobs

pytestmark = pytest.mark.timeout(120)


def test_matrix_multiply_by_rotation(jobs: Jobs, examples: Path, transport: tuple[str, ...]) -> None:
    args = ["--size", "90", "--seed", "5"]
    done = jobs.submit(examples / "matrix_multiply.py", *transport, workers=3, args=args)
    assert done.code == 0, done
    a, b = (np.stack([np.random.default_rng((seed, row)).random(90) for row in range(90)]) for seed in (5, 6))
    trace = float(re.search(r"trace ([\d.]+)", done.out).group(1))
    assert trace == pytest.approx(np.trace(a @ b), rel=1e-9)


@pytest.mark.parametrize("method", ["allreduce", "rotate"])
def test_sgd_learns(jobs: Jobs, examples: Path, transport: tuple[str, ...], method: str) -> None:
    args = ["--method", method, "--samples", "6000", "--epochs", "12"]
    done = jobs.submit(examples / "sgd.py", *transport, workers=2, args=args)
    assert done.code == 0, done
    errors = [float(text) for text in re.findall(r"(\d+\.\d+)", done.out.splitlines()[-1])]
    assert errors[-1] < 0.5 * errors[0], errors
