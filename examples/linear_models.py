"""Logistic regression and a linear support vector machine by stochastic gradient descent: one allreduce per batch.

twister2 submit standalone --workers 4 examples/linear_models.py --loss hinge
python examples/linear_models.py --loss logistic --workers 4

Every worker has a share of the samples and the whole model. In each step all take a batch of their share, and the sum
of their gradients moves the model, which so stays equal everywhere. A fifth of the samples is kept for checking.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import numpy.typing as npt

import twister2
from twister2_net import allreduce

Array = npt.NDArray[np.float64]


def parser() -> argparse.ArgumentParser:
    """The command line; with ``twister2 submit`` the workers are counted there."""
    means = argparse.ArgumentParser(prog="linear_models.py", description="Tell two made-up classes apart by a plane.")
    means.add_argument("--loss", choices=["logistic", "hinge"], default="logistic", help="hinge: a linear SVM")
    means.add_argument("--samples", type=int, default=20_000)
    means.add_argument("--features", type=int, default=10)
    means.add_argument("--noise", type=float, default=0.5, help="how far the classes reach into each other")
    means.add_argument("--epochs", type=int, default=10)
    means.add_argument("--batch", type=int, default=64, help="samples of a worker in a step")
    means.add_argument("--rate", type=float, default=0.1, help="learning rate of the first epoch")
    means.add_argument("--penalty", type=float, default=1e-4, help="of the squared weights")
    means.add_argument("--seed", type=int, default=1)
    means.add_argument("--workers", type=int, default=2, help="worker processes, when run by python alone")
    return means


def made_samples(options: argparse.Namespace) -> tuple[Array, Array]:
    """Samples with a last feature that is 1 (so that the plane need not pass 0), and their classes, 1 and -1."""
    random = np.random.default_rng(options.seed)
    plane = random.normal(size=options.features + 1)
    samples = np.append(random.normal(size=(options.samples, options.features)), np.ones((options.samples, 1)), axis=1)
    classes = np.sign(samples @ plane + options.noise * random.normal(size=options.samples))
    return samples, classes


def losses(loss: str, margins: Array) -> Array:
    """The loss of each sample, by its margin: positive on the right side of the plane."""
    return np.logaddexp(0, -margins) if loss == "logistic" else np.maximum(0, 1 - margins)


def gradient(loss: str, samples: Array, classes: Array, weights: Array) -> Array:
    """The sum of the samples' gradients."""
    margins = classes * (samples @ weights)
    slopes = -0.5 * (1 - np.tanh(margins / 2)) if loss == "logistic" else -(margins < 1).astype(float)
    return samples.T @ (slopes * classes)


def main(env: twister2.WorkerEnvironment) -> list[float]:
    """Train and check.

    :returns: the weights, the same on every worker.
    """
    options = parser().parse_args(env.args)
    samples, classes = made_samples(options)
    n_train = options.samples * 4 // 5
    mine = slice(env.worker_id, n_train, env.n_workers)
    x, y = samples[mine], classes[mine]
    x_check, y_check = (part[n_train:][env.worker_id :: env.n_workers] for part in (samples, classes))
    n_steps = max(1, n_train // env.n_workers // options.batch)  # equal on all workers: there is a collective in each
    weights = np.zeros(options.features + 1)
    if env.worker_id == 0:
        print(f"{options.loss} loss, {n_train:,} samples, {n_steps} steps in an epoch, {env.n_workers} workers")
        print("epoch  mean loss  right of those kept for checking")
    counts = [0.0] * 4
    for epoch in range(options.epochs):
        rate = options.rate / (1 + epoch)
        for step in range(n_steps):
            x_now, y_now = x[step::n_steps], y[step::n_steps]
            total = allreduce(env, np.append(gradient(options.loss, x_now, y_now, weights), len(y_now)))
            weights -= rate * (total[:-1] / total[-1] + 2 * options.penalty * weights)
        loss = losses(options.loss, y * (x @ weights)).sum()
        found = np.sign(x_check @ weights)
        pairs = [np.sum((y_check == true) & (found == guess)) for true in (1, -1) for guess in (1, -1)]
        loss, *counts = allreduce(env, np.array([loss, *pairs]))
        if env.worker_id == 0:
            print(f"{epoch + 1:5}  {loss / n_train:9.5f}  {(counts[0] + counts[3]) / max(1, sum(counts)):7.2%}")
    if env.worker_id == 0:
        print(f"\nclass  found 1  found -1\n    1  {counts[0]:7.0f}  {counts[1]:8.0f}")
        print(f"   -1  {counts[2]:7.0f}  {counts[3]:8.0f}")
        print("\nweights " + " ".join(f"{weight:.6f}" for weight in weights))
    return [float(weight) for weight in weights]


if __name__ == "__main__":
    twister2.run(main, args=sys.argv[1:], workers=parser().parse_args().workers)
