"""Stochastic gradient descent in two ways: with allreduce (data parallel) and with rotate (model parallel).

twister2 submit standalone --workers 4 examples/sgd.py --method rotate
python examples/sgd.py --method allreduce --workers 4

``allreduce`` fits a linear model: every worker has the whole model and a share of the samples; gradients are summed
after every batch. ``rotate`` factorises a matrix of ratings: every worker has the ratings and factors of its users; the
factors of the items pass by all workers, so that no two ever change the same ones.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import numpy.typing as npt

import twister2
from twister2_harp import IN_PLACE, Harp, Table

Array = npt.NDArray[np.float64]


def parser() -> argparse.ArgumentParser:
    """The command line; with ``twister2 submit`` the workers are counted there."""
    means = argparse.ArgumentParser(prog="sgd.py", description="Stochastic gradient descent on made-up data.")
    means.add_argument("--method", choices=["allreduce", "rotate"], default="allreduce")
    means.add_argument("--epochs", type=int, default=20)
    means.add_argument("--samples", type=int, default=20_000, help="samples, or ratings")
    means.add_argument("--rate", type=float, default=0.05, help="learning rate")
    means.add_argument("--workers", type=int, default=2, help="worker processes, when run by python alone")
    return means


def linear(harp: Harp, options: argparse.Namespace) -> list[float]:
    """Fit ``y = x . w`` by summed gradients.

    :returns: mean squared error after every epoch, the same on all workers.
    """
    random = np.random.default_rng(1)
    truth = random.normal(size=16)
    samples = random.normal(size=(options.samples, truth.size))
    values = samples @ truth + 0.1 * random.normal(size=options.samples)
    samples, values = samples[harp.rank :: harp.size], values[harp.rank :: harp.size]
    weights = np.zeros(truth.size)
    n_batches = max(1, options.samples // harp.size // 256)
    errors = []
    for _ in range(options.epochs):
        for batch in range(n_batches):  # the same number on every worker: a collective in each
            x, y = samples[batch::n_batches], values[batch::n_batches]
            gradient = np.append(x.T @ (x @ weights - y), len(y))
            harp.Allreduce(IN_PLACE, gradient)
            weights -= options.rate * gradient[:-1] / gradient[-1]
        error = np.array([((samples @ weights - values) ** 2).sum(), len(values)])
        harp.Allreduce(IN_PLACE, error)
        errors.append(float(error[0] / error[1]))
    return errors


def factorise(harp: Harp, options: argparse.Namespace) -> list[float]:
    """Find factors of users and items whose products are the known ratings, by rotating the items' factors.

    :returns: mean squared error after every epoch, the same on all workers.
    """
    n_users, n_items, n_factors = 400, 300, 8
    random = np.random.default_rng(2)
    true_users, true_items = random.normal(size=(n_users, n_factors)), random.normal(size=(n_items, n_factors))
    users, items = random.integers(n_users, size=options.samples), random.integers(n_items, size=options.samples)
    ratings = (true_users[users] * true_items[items]).sum(axis=1) / np.sqrt(n_factors)
    mine = users % harp.size == harp.rank
    users, items, ratings = users[mine], items[mine], ratings[mine]

    of_users = 0.3 * np.random.default_rng(3).normal(size=(n_users, n_factors))
    table = Table({harp.rank: 0.3 * np.random.default_rng((4, harp.rank)).normal(size=(n_items, n_factors))})
    errors = []
    for _ in range(options.epochs):
        for _ in range(harp.size):
            ((owner, of_items),) = table.items()  # the factors of items owner, owner + size, ...
            for index in np.flatnonzero(items % harp.size == owner):
                user, item = of_users[users[index]], of_items[items[index]]
                miss = ratings[index] - user @ item / np.sqrt(n_factors)
                user += options.rate * miss * item
                item += options.rate * miss * user
            table = harp.rotate(table)
        everywhere = harp.allreduce(table)
        guess = np.zeros(len(ratings))
        for owner, of_items in everywhere.items():
            here = items % harp.size == owner
            guess[here] = (of_users[users[here]] * of_items[items[here]]).sum(axis=1) / np.sqrt(n_factors)
        error = np.array([((guess - ratings) ** 2).sum(), len(ratings)])
        harp.Allreduce(IN_PLACE, error)
        errors.append(float(error[0] / error[1]))
    return errors


def main(env: twister2.WorkerEnvironment) -> list[float]:
    """Train, and tell how the error went down."""
    options = parser().parse_args(env.args)
    harp = Harp(env)
    errors = linear(harp, options) if options.method == "allreduce" else factorise(harp, options)
    if harp.rank == 0:
        shown = ", ".join(f"{error:.4f}" for error in errors[:: max(1, len(errors) // 5)])
        print(f"{options.method}: mean squared error {shown}, at the end {errors[-1]:.4f}")
    return errors


if __name__ == "__main__":
    twister2.run(main, args=sys.argv[1:], workers=parser().parse_args().workers)
