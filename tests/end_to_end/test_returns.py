"""A worker that returns without a step that another makes is the culprit, whatever the transport, whoever is first."""

from __future__ import annotations

import pytest

from twister2_testkit.jobs import Jobs

pytestmark = pytest.mark.timeout(120)

WAYS = {
    "tcp": ("-o", "job.comm=tcp"),
    "shm": ("-o", "job.comm=shm,tcp"),
    "mpi": ("-o", "job.comm=mpi"),
    "threads": ("-o", "rm.standalone.workers_as=threads", "-o", "job.comm=inproc"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("late", [0, 1])
def test_an_operator_whose_target_has_returned(jobs: Jobs, way: str, late: int) -> None:
    program = jobs.program(
        f"""
        import time
        from twister2_net import operator

        def main(env):
            env.network.exchange_objects(1)
            if env.worker_id == {late}:
                time.sleep(0.5)
            if env.worker_id == 1:
                return
            with operator(env, "direct", sources=[0], targets=[1]) as op:
                op.put(0, [1, 2, 3])
                op.finish()
        """
    )
    done = jobs.submit(program, *WAYS[way])
    assert done.code == 1, done
    assert "[T2-J406] worker 1 has returned" in done.err, done
    assert "net.direct" in done.err, done
