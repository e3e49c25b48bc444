"""Columns: keyed_partition over comm_shm in one call or in batches, and masks by the key's last bit with a socket."""

# benchmark: venv=twister2 launch=submit options=job.comm=shm
# benchmark: packages=twister2-net,twister2-comm-shm,numpy,pyarrow,pyzmq
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow
from harness.contest import Contest
from harness.keyed import COLUMN_RECORDS, PAIR, Pair, columns, in_turns, through_graph

from twister2_net import keyed_partition

if TYPE_CHECKING:
    from twister2.spec.environment import WorkerEnvironment


NAMES = ["key", "value"]
COLUMN_BATCH = 128 << 10


def keys(batch: Any) -> set[int]:
    """The different keys of a structured array or record batch."""
    column = batch["key"]
    return set(np.unique(column if isinstance(column, np.ndarray) else column.to_numpy()).tolist())


def by_hand(pair: Pair, table: Any) -> list[Any]:
    where = table["key"] & 1
    pair.socket.send(table[where != pair.me], copy=False)
    return [table[where == pair.me], np.frombuffer(pair.socket.recv(copy=False).buffer, PAIR)]


def main(env: WorkerEnvironment) -> None:
    contest, pair = Contest(env.args, reporter=env.worker_id == 0), Pair(env)
    n = COLUMN_RECORDS[contest.size]
    table = columns(env, n)

    cut = [table[at : at + COLUMN_BATCH] for at in range(0, n, COLUMN_BATCH)]
    arrow = [pyarrow.RecordBatch.from_arrays([pyarrow.array(each[name]) for name in NAMES], NAMES) for each in cut]

    def job() -> dict[str, Any]:
        ours = {
            "structured array, one call": lambda: [keyed_partition(env, table)],
            "structured arrays, graph": lambda: through_graph(env, cut),
            "Arrow batches, graph": lambda: through_graph(env, arrow, key="key"),
        }
        pairs, right = {}, True
        for name, run in ours.items():
            pairs[name], good = in_turns(env, run, lambda: by_hand(pair, table), n * env.n_workers, keys)
            right = right and good
        return {"right": right, "pairs": pairs}

    contest.report(contest.run(job))
