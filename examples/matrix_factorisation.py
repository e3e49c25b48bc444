"""Ratings of items by users, factorised by alternating least squares; factors rotate, so no worker ever holds all.

twister2 submit standalone --workers 4 examples/matrix_factorisation.py --factors 8
python examples/matrix_factorisation.py --workers 4

Every worker has the users (and the items) whose number modulo the number of workers is its own. In each half of an
iteration the factors of one side pass by all workers: each adds what they mean for its part of the other side to one
small system of equations per row, and solves these when all have been there. A tenth of the ratings
is kept for checking.
"""

from __future__ import annotations

import argparse
import sys
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

import twister2
from twister2_harp import Harp, Table

Array = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]


class Ratings(NamedTuple):
    """Known values of a matrix: ``value[i]`` is at ``row[i], column[i]``."""

    row: Numbers
    column: Numbers
    value: Array

    def where(self, chosen: npt.NDArray[np.bool_]) -> Ratings:
        """Some of them."""
        return Ratings(self.row[chosen], self.column[chosen], self.value[chosen])


def parser() -> argparse.ArgumentParser:
    """The command line; with ``twister2 submit`` the workers are counted there."""
    means = argparse.ArgumentParser(prog="matrix_factorisation.py", description="Guess ratings from made-up ones.")
    means.add_argument("--users", type=int, default=600)
    means.add_argument("--items", type=int, default=300)
    means.add_argument("--ratings", type=int, default=20_000, help="known ones, of users * items")
    means.add_argument("--factors", type=int, default=5)
    means.add_argument("--penalty", type=float, default=0.02, help="of the squared factors, for each rating")
    means.add_argument("--iterations", type=int, default=10)
    means.add_argument("--seed", type=int, default=1)
    means.add_argument("--workers", type=int, default=2, help="worker processes, when run by python alone")
    return means


def made_ratings(options: argparse.Namespace) -> tuple[Ratings, Ratings]:
    """Ratings around 3 that five properties of users and items make, with some noise: to learn from, and to check."""
    random = np.random.default_rng(options.seed)
    taste, kind = random.normal(size=(options.users, 5)), random.normal(size=(options.items, 5))
    places = random.choice(options.users * options.items, options.ratings, replace=False)
    row, column = places // options.items, places % options.items
    value = (taste[row] * kind[column]).sum(axis=1) / np.sqrt(5) + 0.2 * random.normal(size=options.ratings)
    known = Ratings(row, column, 3 + value)
    return known.where(np.arange(options.ratings) % 10 > 0), known.where(np.arange(options.ratings) % 10 == 0)


def solved(harp: Harp, ratings: Ratings, n_rows: int, table: Table, penalty: float) -> tuple[Array, Table]:
    """The best factors of this worker's rows, by those of all columns, which pass by.

    :returns: an array of shape (n_rows, factors), and the table, back where it was.
    """
    n_factors = next(iter(table.values())).shape[1]
    systems, right = np.zeros((n_rows, n_factors, n_factors)), np.zeros((n_rows, n_factors))
    systems += penalty * np.eye(n_factors)
    for _ in range(harp.size):
        ((owner, factors),) = table.items()
        here = ratings.where(ratings.column % harp.size == owner)
        rows, seen = here.row // harp.size, factors[here.column // harp.size]
        np.add.at(systems, rows, seen[:, :, None] * seen[:, None, :] + penalty * np.eye(n_factors))
        np.add.at(right, rows, seen * (here.value - 3)[:, None])
        table = harp.rotate(table)
    return np.linalg.solve(systems, right[:, :, None])[:, :, 0], table


def error(harp: Harp, ratings: Ratings, users: Array, table: Table) -> float:
    """The root of the mean squared error, over the ratings of all workers."""
    sums = np.zeros(2)
    for _ in range(harp.size):
        ((owner, items),) = table.items()
        here = ratings.where(ratings.column % harp.size == owner)
        guess = 3 + (users[here.row // harp.size] * items[here.column // harp.size]).sum(axis=1)
        sums += ((guess - here.value) ** 2).sum(), len(guess)
        table = harp.rotate(table)
    total = harp.allreduce(sums)
    return float(np.sqrt(total[0] / max(1, total[1])))


def main(env: twister2.WorkerEnvironment) -> list[float]:
    """Factorise.

    :returns: the error of the ratings kept for checking after each iteration, the same on all workers.
    """
    options = parser().parse_args(env.args)
    harp = Harp(env)
    known, kept = made_ratings(options)
    by_user, check = (ratings.where(ratings.row % harp.size == harp.rank) for ratings in (known, kept))
    by_item = known.where(known.column % harp.size == harp.rank)
    by_item = Ratings(by_item.column, by_item.row, by_item.value)
    items = np.random.default_rng(options.seed + 1).normal(size=(options.items, options.factors))
    items = items[harp.rank :: harp.size]
    n_users = len(range(harp.rank, options.users, harp.size))
    errors = []
    if harp.rank == 0:
        print(f"{len(known.value):,} ratings by {options.users} users of {options.items} items, {harp.size} workers")
        print("iteration   error  of ratings kept for checking")
    for iteration in range(options.iterations):
        users, _ = solved(harp, by_user, n_users, Table({harp.rank: items}), options.penalty)
        items, _ = solved(harp, by_item, len(items), Table({harp.rank: users}), options.penalty)
        learnt = error(harp, by_user, users, Table({harp.rank: items}))
        errors.append(error(harp, check, users, Table({harp.rank: items})))
        if harp.rank == 0:
            print(f"{iteration + 1:9}  {learnt:.4f}  {errors[-1]:.4f}  {'#' * round(40 * errors[-1])}")
    return errors


if __name__ == "__main__":
    twister2.run(main, args=sys.argv[1:], workers=parser().parse_args().workers)
