"""Whole jobs over shared memory."""

from __future__ import annotations

import pytest

from twister2_testkit.jobs import Jobs


@pytest.fixture
def jobs(tmp_path):
    with Jobs(tmp_path) as jobs:
        yield jobs


@pytest.mark.parametrize("mebibytes", [0, 32])
def test_who_waits_for_a_late_peer_spins_for_a_bounded_time(jobs, mebibytes):
    """Then it sleeps: in 3 s of waiting little CPU time goes by."""
    program = jobs.program("""
        import sys, time
        import numpy as np
        from twister2.spec.collectives import Call

        def main(env):
            ours, n = env.network.collectives(), max(1, int(env.args[0]) << 17)
            data, into = np.ones(n), np.empty(n)
            ours.run(Call("allreduce"), data, into)
            took = []
            for late in (0.0, 3.0):
                env.barrier()
                if env.worker_id:
                    time.sleep(late)
                cpu, wall = time.process_time(), time.monotonic()
                ours.run(Call("allreduce"), data, into)
                took += [time.process_time() - cpu, time.monotonic() - wall]
            if not env.worker_id:
                print("late", *took, "native" in ours.algorithms("allreduce"), flush=True)
    """)
    done = jobs.submit(program, "-o", "job.comm=shm", args=[str(mebibytes)])
    assert done.code == 0, done.err
    _, cpu, _, late_cpu, late_wall, native = done.out.split()
    assert native == "True"
    assert float(late_wall) > 1.2
    bound = mebibytes * 2**20 * 2 * 2e-9  # of the README: two nanoseconds for each byte of each of two members
    assert float(late_cpu) < bound + float(cpu) + 0.25, done.out
