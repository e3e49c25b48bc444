"""Waits that run out say who is late, where they are, and the lines of both."""

from __future__ import annotations

import re

import pytest

from twister2_testkit.jobs import Jobs

HEAD = """
        import pathlib
        import time
        import numpy as np
        from twister2.spec.errors import DeadlineError
        from twister2_harp import IN_PLACE, Harp
        from twister2_net import operator
        OVER = pathlib.Path("over")
        def show(wait, wanted):
            for _ in range(8):  # heartbeats of a busy machine may be late
                try:
                    wait()
                except DeadlineError as error:
                    text = f"{error}".replace(__file__, "prog") + f" {error.details['late']}"
                if wanted in text:
                    break
            print(text)
            OVER.touch()
        def stay_away():
            while not OVER.exists():
                time.sleep(0.05)
        """
ROADS = {
    "tcp": ("job.comm=tcp",),
    "shm": ("job.comm=shm,tcp",),
    "mpi": ("job.comm=mpi",),
    "inproc": ("rm.standalone.workers_as=threads", "job.comm=inproc"),
}


def shown(jobs: Jobs, body: str, road: str = "tcp", workers: int = 3) -> str:
    """What the program prints, with ``<its line>`` for every place of the program."""
    options = [word for option in ROADS[road] for word in ("-o", option)]
    program = jobs.program(HEAD + body)
    done = jobs.submit(program, *options, workers=workers)
    assert done.code == 0, done
    lines = program.read_text().splitlines()
    return re.sub(r"prog:(\d+)", lambda found: f"<{lines[int(found[1]) - 1].strip()}>", done.out)


@pytest.mark.parametrize("road", ROADS)
@pytest.mark.parametrize("nbytes", [8, 1 << 20])
def test_a_request_says_who_has_not_entered_it(jobs: Jobs, road: str, nbytes: int) -> None:
    out = shown(
        jobs,
        f"""
        def main(env):
            harp = Harp(env)
            data = np.ones({nbytes // 8})
            harp.Barrier()
            if env.worker_id == 2:
                stay_away()
            request = harp.Iallreduce(IN_PLACE, data)
            if env.worker_id == 0:
                show(lambda: request.wait(2.5), "worker 2 is in no step; its last")
            request.wait()
        """,
        road,
    )
    assert "[T2-J408] worker 0 waited 2.5 s for allreduce, step " in out, out
    assert 'where:   <show(lambda: request.wait(2.5), "worker 2 is in no step; its last")>' in out, out
    assert "begun at <request = harp.Iallreduce(IN_PLACE, data)>; worker 2 has not entered it; worker 2 is in no" in out
    assert "barrier arrays at <harp.Barrier()>" in out, out
    assert out.rstrip().endswith("[2]"), out


def test_an_event_that_does_not_come(jobs: Jobs) -> None:
    out = shown(
        jobs,
        """
        def main(env):
            harp, others = Harp(env), None
            events = harp.events
            if env.worker_id == 0:
                show(lambda: events.wait(2.5), "worker 2 is in barrier")
                events.send_all(1)
            elif env.worker_id == 1:
                events.wait(60)
            harp.Barrier()
        """,
    )
    assert "[T2-J408] worker 0 waited 2.5 s for harp.events: an event" in out, out
    assert 'where:   <show(lambda: events.wait(2.5), "worker 2 is in barrier")>' in out, out
    assert (
        "because: no event came in time; worker 1 is in harp.events at <events = harp.events> (step 1 of the group of"
        in out
    ), out
    assert "worker 2 is in barrier arrays (first use) at <harp.Barrier()> (step 2)" in out, out


def test_an_event_of_members_that_have_not_looked_at_events_yet(jobs: Jobs) -> None:
    out = shown(
        jobs,
        """
        def main(env):
            harp = Harp(env)
            if env.worker_id == 0:
                show(lambda: harp.events.wait(2.0), "has: worker 1")
            else:
                stay_away()
            harp.events
        """,
        workers=2,
    )
    assert "no event came in time; not used harp.events yet, which all members have to do once, has: worker 1" in out
    assert "entered" not in out, out


def test_an_operator_says_who_is_late_too(jobs: Jobs) -> None:
    out = shown(
        jobs,
        """
        def main(env):
            Harp(env).Barrier()
            if env.worker_id:
                stay_away()
            with operator(env, "partition", sources=[0, 1], targets=[0, 1]) as end:
                if env.worker_id == 0:
                    show(lambda: end.drive(deadline_s=2.0), "worker 1 has not entered it")
                end.drive()
        """,
        workers=2,
    )
    assert "worker 1 has not entered it" in out, out


def test_a_request_of_a_sub_group_names_the_group(jobs: Jobs) -> None:
    out = shown(
        jobs,
        """
        def main(env):
            pair = Harp(env).split(env.worker_id % 2)
            pair.Barrier()
            if env.worker_id == 2:
                stay_away()
            request = pair.Ibarrier()
            if env.worker_id == 0:
                show(lambda: request.wait(2.0), "worker 2 has not entered it")
            request.wait()
        """,
        workers=4,
    )
    assert "of the group of workers 0, 2, begun at <request = pair.Ibarrier()>; worker 2 has not entered it" in out, out
