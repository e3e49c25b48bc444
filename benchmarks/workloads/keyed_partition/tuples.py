"""Python pairs: the operator as an edge of a graph over comm_shm, and a loop with hash, pickle and a pyzmq socket."""

# benchmark: venv=twister2 launch=submit options=job.comm=shm
# benchmark: packages=twister2-net,twister2-comm-shm,numpy,pyzmq
from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from harness.contest import Contest
from harness.keyed import BATCH, N_KEYS, RECORDS, Pair, in_turns, through_graph

if TYPE_CHECKING:
    from twister2.spec.environment import WorkerEnvironment


def by_hand(pair: Pair, batches: list[Any]) -> list[Any]:
    kept: list[Any] = []
    ended = False
    for batch in [*batches, None]:
        if batch is None:
            pair.socket.send(b"")
        else:
            parts: list[list[Any]] = [[], []]
            add = [part.append for part in parts]
            for record in batch:
                add[hash(record[0]) & 1](record)
            kept.append(parts[pair.me])
            pair.socket.send(pickle.dumps(parts[1 - pair.me], 5))
        while not ended and (batch is None or pair.socket.poll(0)):
            data = pair.socket.recv(copy=False).buffer
            if not len(data):
                ended = True
            else:
                kept.append(pickle.loads(data))
    return kept


def main(env: WorkerEnvironment) -> None:
    contest, pair = Contest(env.args, reporter=env.worker_id == 0), Pair(env)
    n = RECORDS[contest.size]
    numbers = range(env.worker_id * n, (env.worker_id + 1) * n)
    inputs = {
        "(int, int)": [(number * 7919 % N_KEYS, number) for number in numbers],
        "(str, int)": [(f"key{number * 7919 % N_KEYS}", 1) for number in numbers],
        "(str, int), all keys different": [(f"key{number}", 1) for number in numbers],
    }

    def job() -> dict[str, Any]:
        pairs, right = {}, True
        for name, records in inputs.items():
            batches = [records[at : at + BATCH] for at in range(0, n, BATCH)]
            rates, good = in_turns(
                env,
                lambda batches=batches: through_graph(env, batches),  # type: ignore[misc]
                lambda batches=batches: by_hand(pair, batches),  # type: ignore[misc]
                n * env.n_workers,
                lambda batch: {key for key, _ in batch},
            )
            pairs[name], right = rates, right and good
        return {"right": right, "pairs": pairs}

    contest.report(contest.run(job))
