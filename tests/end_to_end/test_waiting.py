"""``twister2 status`` tells which workers the others wait for, whatever carries their messages."""

from __future__ import annotations

import json

import pytest

from twister2_testkit.jobs import Jobs
from twister2_testkit.processes import wait_until

PROGRAM = """
    import os, time
    import numpy as np
    from twister2.spec.collectives import Call
    from twister2_net import allreduce, keyed_gather

    def main(env):
        what, go, comm = env.args
        ours, into, call = env.network.collectives(), np.empty(1), Call("allreduce")
        for turn in range(10):
            while turn == 9 and env.worker_id in (1, 3) and not os.path.exists(go):
                time.sleep(0.01)
            if what == "collective":
                ours.run(call, np.ones(1), into)
                total = into[0]
            elif what == "object":
                total = allreduce(env, {1: 1}, lambda a, b: {1: a[1] + b[1]})[1]
            elif what == "shuffle":
                total = allreduce(env, sum(len(values) for _, values in keyed_gather(env, [(env.worker_id % 2, 1)])))
        assert env.network.transport_name((env.worker_id + 1) % 4) == comm
        print(int(total), flush=True)
"""


WAITS = {
    "collective": ("allreduce, step ", ": for workers 1, 3", ": for workers 1, 3"),
    # along a tree: each waits for its neighbour there
    "object": ("allreduce, step ", ": for worker 1", ": for worker 3"),
    "shuffle": ("net.keyed_gather", "", ""),
}
"""What is waited for, and for whom: on worker 0 and on worker 2."""


@pytest.mark.parametrize("what", WAITS)
@pytest.mark.parametrize("comm", ["shm", "tcp"])
def test_the_status_names_who_waits_and_for_whom(jobs: Jobs, comm: str, what: str) -> None:
    go = jobs.folder / "go"
    options = ("-q", "-o", f"job.comm={comm}", "-o", "comm.tcp.same_host=tcp", "-o", "job.heartbeat_s=0.25")
    client = jobs.start("submit", "standalone", "-n", "4", *options, jobs.program(PROGRAM), what, go, comm)
    begins, first, second = WAITS[what]

    def waits() -> list[str]:
        asked = jobs.cli("status", "last", "--json")
        workers = json.loads(asked.out).get("workers", ()) if asked.code == 0 else ()
        return [worker["waits_for"] for worker in workers]

    def rows() -> list[str]:
        shown = [line.split(" MiB ", 1) for line in jobs.cli("status", "last").out.splitlines() if " joined " in line]
        return [row[1].lstrip() for row in shown]

    def come() -> bool:
        """Until the last turn has come all of them wait now and then."""
        told, shown = waits(), rows()
        return (
            [bool(text) for text in told] == [True, False, True, False]
            and [text.startswith("step ") for text in shown] == [True, False, True, False]
            and all("prog.py:" in shown[worker] for worker in (0, 2))
            and all(
                told[worker].startswith(begins) and told[worker].endswith(whom)
                for worker, whom in ((0, first), (2, second))
            )
        )

    wait_until(come, 60, lambda: f"status: {waits()}, {rows()}")
    go.touch()
    done = client.finish()
    assert (done.code, done.out.split()) == (0, ["4"] * 4), done
