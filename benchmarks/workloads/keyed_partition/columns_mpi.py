"""Columns in a structured array: keyed_partition over comm_mpi, and a sort by key with Alltoall and Alltoallv."""

# benchmark: venv=twister2 launch=submit options=job.comm=mpi
# benchmark: packages=twister2-net,twister2-comm-mpi,numpy,mpi4py,mpich
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from harness.contest import Contest
from harness.keyed import COLUMN_RECORDS, PAIR, columns, in_turns

from twister2_net import keyed_partition

if TYPE_CHECKING:
    from twister2.spec.environment import WorkerEnvironment


def by_hand(world: Any, table: Any) -> list[Any]:
    from mpi4py import MPI

    where = (table["key"] % world.size).astype(np.uint8)
    ordered = table[np.argsort(where, kind="stable")]
    send = np.bincount(where, minlength=world.size)
    receive = np.empty_like(send)
    world.Alltoall(send, receive)
    got = np.empty(receive.sum(), PAIR)
    size = PAIR.itemsize
    world.Alltoallv([ordered, send * size, MPI.BYTE], [got, receive * size, MPI.BYTE])
    return [got]


def main(env: WorkerEnvironment) -> None:
    contest = Contest(env.args, reporter=env.worker_id == 0)
    n = COLUMN_RECORDS[contest.size]
    table = columns(env, n)

    def job() -> dict[str, Any]:
        rates, right = in_turns(
            env,
            lambda: [keyed_partition(env, table)],
            lambda: by_hand(env.mpi, table),
            n * env.n_workers,
            lambda batch: set(np.unique(batch["key"]).tolist()),
        )
        return {"right": right, "pairs": {"(int64, float64)": rates}}

    contest.report(contest.run(job))
