"""Observers of whole jobs, in the client and in the job master: what they hear, and what a bad one may do to a job."""

from __future__ import annotations

import itertools
import os
import signal
import textwrap
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from twister2_testkit.jobs import Jobs

STATES = ["queued", "starting", "running", "restarting", "running", "completed"]
QUICK = ("-o", "job.heartbeat_s=0.25", "-o", "job.lost_after_s=5", "-o", "job.master_lost_s=6")

SOURCE = """
    import os, time
    from twister2.spec.observe import ObserveSpec
    from twister2.spec.plugin import hookimpl

    def note(*words):
        with open(os.path.join({folder!r}, {name!r} + ".heard"), "a") as file:
            print(*words, file=file)

    class Plugin(ObserveSpec):
        api = (1, 0)
        where = {where!r}

        @hookimpl
        def observe_start(self, config, job):
            note("start", job.n_workers)

        @hookimpl
        def job_state(self, state, reason):
            note("state", state, reason)

        @hookimpl
        def attempt_started(self, attempt):
            note("attempt", attempt)
            {body}

        @hookimpl
        def worker_event(self, event):
            note("worker", event.kind, event.worker_id, event.attempt)

        @hookimpl
        def job_ended(self, state):
            note("ended", state)
"""

WAITS = """
    import os, pathlib, time

    def main(env):
        env.barrier()
        if env.worker_id == 1 and env.attempt == 1:
            pathlib.Path("ready.new").write_text(str(os.getppid()))
            pathlib.Path("ready.new").rename("ready")
        if env.attempt == 1:
            while True:
                time.sleep(0.05)
                env.barrier()
        env.barrier()
"""


def install(jobs: Jobs, name: str, where: str, body: str = "pass") -> None:
    """An observer that notes what it hears, as a distribution on the path of all processes of the jobs."""
    site = jobs.folder / "site"
    info = site / f"acme_{name}-1.0.dist-info"
    info.mkdir(parents=True)
    source = SOURCE.format(folder=str(jobs.folder), name=name, where=where, body=body)
    (site / f"acme_{name}.py").write_text(textwrap.dedent(source))
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: acme-{name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[twister2.observe]\n{name} = acme_{name}:Plugin\n")
    jobs.environment["PYTHONPATH"] = str(site)


def heard(jobs: Jobs, name: str) -> list[str]:
    return (jobs.folder / f"{name}.heard").read_text().splitlines()


def test_what_observers_hear_of_a_job_whose_worker_is_lost_once(jobs: Jobs) -> None:
    install(jobs, "near", "client")
    install(jobs, "far", "master")
    observers = ("-o", "job.observe=near,far")
    client = jobs.start("submit", "standalone", "-n", "2", *QUICK, *observers, jobs.program(WAITS))
    os.kill(int(jobs.until_file("ready")), signal.SIGKILL)  # a supervisor
    done = client.finish()
    assert done.code == 0, done
    for name in ("near", "far"):
        lines = heard(jobs, name)
        assert lines[:2] == ["start 2", "state queued "], lines
        assert lines[-1] == "ended completed"
        states = [line for line in lines if line.startswith("state")]
        assert len(set(states)) == len(states) - 1, "only 'running' comes twice"
        assert [name for name, _ in itertools.groupby(line.split()[1] for line in states)] == STATES, lines
        assert [line for line in lines if line.startswith("attempt")] == ["attempt 1", "attempt 2"]
        events = [line for line in lines if line.startswith("worker")]
        assert sorted(events[:2]) == ["worker joined 0 1", "worker joined 1 1"]
        assert "worker lost 1 1" in events
        assert "worker restarted 1 2" in events
        assert events.index("worker lost 1 1") < events.index("worker restarted 1 2")


@pytest.mark.parametrize("where", ["client", "master"])
def test_a_slow_observer_holds_up_no_job_and_is_named(jobs: Jobs, where: str) -> None:
    install(jobs, "slow", where, "time.sleep(600)")
    program = jobs.program("def main(env):\n    env.barrier()\n    print('done', env.worker_id)\n")
    done = jobs.submit(program, "-o", "job.observe=slow")
    assert (done.code, sorted(done.out.splitlines())) == (0, ["done 0", "done 1"]), done
    assert "observe plugin 'slow' (acme-slow 1.0) is disabled for this job: attempt_started" in done.err
    assert ("in the job master" in done.err) == (where == "master")


@pytest.mark.parametrize("where", ["client", "master"])
def test_an_observer_that_raises_is_named_to_the_user(jobs: Jobs, where: str) -> None:
    install(jobs, "bad", where, "raise RuntimeError('no display')")
    done = jobs.submit(jobs.program("def main(env):\n    env.barrier()\n"), "-o", "job.observe=bad")
    assert done.code == 0, done
    assert done.err.count("is disabled for this job: attempt_started raised RuntimeError: no display") == 1, done


def test_a_client_with_observers_forks_its_master_all_the_same(jobs: Jobs) -> None:
    install(jobs, "near", "client")
    program = jobs.program(
        """
        import os, sys
        import twister2

        fork, forks = os.fork, []

        def noted():
            forks.append(os.path.basename(sys._getframe(1).f_code.co_filename))
            return fork()

        def main(env):
            return env.worker_id

        if __name__ == "__main__":
            os.fork = noted
            for _ in range(2):
                twister2.run(main, workers=1, config={"job": {"observe": ["near"]}})
            print(forks.count("child.py"))
        """
    )
    done = jobs.python(program)
    assert (done.code, done.out) == (0, "2\n"), done
    assert heard(jobs, "near").count("ended completed") == 2
