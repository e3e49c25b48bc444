"""Harp over comm_tcp on Unix sockets and the same collectives by hand on bare pyzmq sockets, in turns."""

# benchmark: venv=twister2 launch=submit options=job.comm=tcp
# benchmark: packages=twister2-harp,twister2-comm-tcp,numpy,pyzmq
from __future__ import annotations

import shutil
import tempfile
from typing import TYPE_CHECKING

from harness import twister2_collectives
from harness.collectives import measure_two
from harness.contest import Contest
from harness.zmq_ring import Ring, makers

from twister2_harp import Harp

if TYPE_CHECKING:
    from twister2.spec.environment import WorkerEnvironment


def main(env: WorkerEnvironment) -> None:
    contest, harp = Contest(env.args, reporter=env.worker_id == 0), Harp(env)
    folder = env.network.broadcast_object(tempfile.mkdtemp(prefix="t2b") if env.worker_id == 0 else None)
    ring = Ring(env.worker_id, env.n_workers, lambda one, other: f"ipc://{folder}/{one}-{other}")
    theirs, ours = makers(ring), twister2_collectives.makers(harp)
    ranks = twister2_collectives.HarpRanks(harp)
    both = {name: ours[name] for name in theirs}
    try:
        contest.report(contest.run(lambda: measure_two(both, theirs, ranks, contest.size)))
        ring.barrier()
    finally:
        ring.close()
        if env.worker_id == 0:
            shutil.rmtree(folder, ignore_errors=True)
