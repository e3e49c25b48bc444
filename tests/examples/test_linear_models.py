"""Logistic regression and SVM as whole jobs, against one process of plain numpy on the same batches."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

from twister2_testkit.jobs import Jobs

pytestmark = pytest.mark.timeout(120)


def plain_run(samples: np.ndarray, classes: np.ndarray, loss: str, workers: int) -> tuple[np.ndarray, list[float]]:
    """The model and the losses of three epochs with batches of about 16 samples of each worker, one after the other."""
    weights, seen = np.zeros(samples.shape[1]), []
    n_steps = len(samples) // workers // 16
    for epoch in range(3):
        for step in range(n_steps):
            rows = np.concatenate(
                [np.arange(worker, len(samples), workers)[step::n_steps] for worker in range(workers)]
            )
            total = np.zeros(len(weights))
            for sample, which in zip(samples[rows], classes[rows], strict=True):
                margin = which * (sample @ weights)
                slope = -1 / (1 + np.exp(margin)) if loss == "logistic" else -float(margin < 1)
                total += slope * which * sample
            weights = weights - 0.1 / (1 + epoch) * (total / len(rows) + 2e-4 * weights)
        margins = classes * (samples @ weights)
        each = np.log1p(np.exp(-margins)) if loss == "logistic" else np.maximum(0, 1 - margins)
        seen.append(each.mean())
    return weights, seen


@pytest.mark.parametrize(("loss", "workers"), [("logistic", 2), ("hinge", 2), ("hinge", 3)])
def test_the_model_is_that_of_plain_numpy(jobs: Jobs, examples: Path, loss: str, workers: int) -> None:
    args = ["--loss", loss, "--samples", "501", "--features", "4", "--epochs", "3", "--batch", "16", "--seed", "7"]
    done = jobs.submit(examples / "linear_models.py", workers=workers, args=args)
    assert done.code == 0, done
    spec = importlib.util.spec_from_file_location("linear_models", examples / "linear_models.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    samples, classes = example.made_samples(example.parser().parse_args(args))
    weights, losses = plain_run(samples[:400], classes[:400], loss, workers)
    shown = re.search(r"^weights (.*)$", done.out, re.MULTILINE)[1]
    np.testing.assert_allclose([float(text) for text in shown.split()], weights, atol=2e-6)
    rows = re.findall(r"^ +\d+ +(\d\.\d{5}) +([\d.]+)%$", done.out, re.MULTILINE)
    assert [float(row[0]) for row in rows] == pytest.approx(losses, abs=2e-5)
    found = np.sign(samples[400:] @ weights)
    table = [int(text) for row in re.findall(r"^ +-?1 +(\d+) +(\d+)$", done.out, re.MULTILINE) for text in row]
    assert table == [np.sum((classes[400:] == true) & (found == guess)) for true in (1, -1) for guess in (1, -1)]
    assert float(rows[-1][1]) == pytest.approx(100 * (table[0] + table[3]) / 101, abs=0.01)


@pytest.mark.parametrize("loss", ["logistic", "hinge"])
def test_nearly_all_are_told_apart_where_there_is_no_noise(jobs: Jobs, examples: Path, loss: str) -> None:
    args = ["--loss", loss, "--samples", "4000", "--noise", "0", "--epochs", "6", "--rate", "1"]
    done = jobs.python(examples / "linear_models.py", *args)
    assert done.code == 0, done
    assert float(re.findall(r"([\d.]+)%$", done.out, re.MULTILINE)[-1]) > 97
