"""Columns in a structured array: keyed_partition over comm_shm, and masks by the key's last bit with a pyzmq socket."""

# benchmark: venv=twister2 launch=submit options=job.comm=shm
# benchmark: packages=twister2-net,twister2-comm-shm,numpy,pyzmq
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from harness.contest import Contest
from harness.keyed import COLUMN_RECORDS, PAIR, Pair, columns, in_turns

from twister2_net import keyed_partition

if TYPE_CHECKING:
    from twister2.spec.environment import WorkerEnvironment


def by_hand(pair: Pair, table: Any) -> list[Any]:
    where = table["key"] & 1
    pair.socket.send(table[where != pair.me], copy=False)
    return [table[where == pair.me], np.frombuffer(pair.socket.recv(copy=False).buffer, PAIR)]


def main(env: WorkerEnvironment) -> None:
    contest, pair = Contest(env.args, reporter=env.worker_id == 0), Pair(env)
    n = COLUMN_RECORDS[contest.size]
    table = columns(env, n)

    def job() -> dict[str, Any]:
        rates, right = in_turns(
            env,
            lambda: [keyed_partition(env, table)],
            lambda: by_hand(pair, table),
            n * env.n_workers,
            lambda batch: set(np.unique(batch["key"]).tolist()),
        )
        return {"right": right, "pairs": {"(int64, float64)": rates}}

    contest.report(contest.run(job))
