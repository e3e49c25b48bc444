"""Harp over comm_mpi and the same raw mpi4py call (MPICH), in turns in the same processes."""

# benchmark: venv=twister2 launch=submit options=job.comm=mpi
# benchmark: packages=twister2-harp,twister2-comm-mpi,numpy,mpi4py,mpich
from __future__ import annotations

from typing import TYPE_CHECKING

from harness import mpi_collectives, twister2_collectives
from harness.collectives import measure_two
from harness.contest import Contest

from twister2_harp import Harp

if TYPE_CHECKING:
    from twister2.spec.environment import WorkerEnvironment


def main(env: WorkerEnvironment) -> None:
    contest, harp = Contest(env.args, reporter=env.worker_id == 0), Harp(env)
    ours, theirs = twister2_collectives.makers(harp), mpi_collectives.makers(env.mpi)
    ranks = twister2_collectives.HarpRanks(harp)
    contest.report(contest.run(lambda: measure_two(ours, theirs, ranks, contest.size)))
