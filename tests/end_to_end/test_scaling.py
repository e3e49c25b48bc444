"""Jobs that get more or fewer workers while they run, or begin again, on the user's word."""

from __future__ import annotations

import os
import signal

import pytest

from twister2_testkit.jobs import Client, Jobs
from twister2_testkit.processes import wait_until

COUNTS = """
    import os, time

    def main(env):
        turn = env.state("turn", 0, scope=os.environ.get("KIT_SCOPE", "replicated"))
        if env.worker_id == 0:
            slots = [worker.slot for worker in env.controller.workers()]
            print("begins", env.attempt, env.n_workers, slots, turn.value > 0, flush=True)
        while True:
            files = [os.path.exists(name) for name in ("enough", "commit-no-more")]
            enough, commit_no_more = env.controller.exchange("files", files)[0]
            if commit_no_more and env.worker_id == 0:
                open("no-commit-comes", "w").close()
            if enough:
                break
            turn.value += 1
            time.sleep(0.05)
            if turn.value % 4 == 0 and not commit_no_more:
                env.commit()
"""


@pytest.fixture
def counting(jobs: Jobs) -> Client:
    """A job of two workers that commits every 0.2 s until there is a file ``enough``."""
    client = jobs.start("submit", "standalone", "-q", "-n", "2", "-o", "job.attempts=1", jobs.program(COUNTS))
    jobs.until_event("checkpoint_committed")
    return client


def commit_no_more(jobs: Jobs) -> None:
    """From now on; what was about to commit has done so."""
    (jobs.folder / "commit-no-more").touch()
    jobs.until_file("no-commit-comes")


def finish(jobs: Jobs, client: Client) -> list[str]:
    """Let the program end; what the first workers of its attempts said."""
    (jobs.folder / "enough").touch()
    done = client.finish()
    assert done.code == 0, done
    return done.out.splitlines()


def test_more_and_fewer_workers_from_the_next_commit(jobs: Jobs, counting: Client) -> None:
    """Attempts that are begun on purpose do not count: the job has one."""
    more = jobs.cli("scale", "last", "4")
    assert (more.code, more.out.split(maxsplit=1)[1:]) == (0, ["has 4 workers, attempt 2\n"]), more
    assert "4 workers, attempt 2" in jobs.cli("status", "last").out
    fewer = jobs.cli("scale", "last", "1")
    assert "has 1 workers, attempt 3" in fewer.out, fewer
    wait_until(lambda: len(jobs.pids("supervisor")) == 1, 60, lambda: str(jobs.processes()))
    again = jobs.cli("scale", "last", "3")
    assert "has 3 workers, attempt 4" in again.out, again
    same = jobs.cli("scale", "last", "3")
    assert "has 3 workers already" in same.out, same
    said = [
        "begins 1 2 [0, 1] False",
        "begins 2 4 [0, 1, 2, 3] True",
        "begins 3 1 [0] True",
        "begins 4 3 [0, 1, 2] True",
    ]
    assert finish(jobs, counting) == said


def test_at_once_from_the_latest_commit(jobs: Jobs, counting: Client) -> None:
    commit_no_more(jobs)
    late = jobs.cli("scale", "last", "3", "--deadline", "10")
    assert late.code == 1, late
    assert "was not scaled within 10 s" in late.err, late
    assert "it waited for the program's next commit" in late.err, late
    wait_until(lambda: len(jobs.pids("supervisor")) == 2, 60, lambda: str(jobs.processes()))
    done = jobs.cli("scale", "last", "3", "--now")
    assert "has 3 workers, attempt 2" in done.out, done
    assert finish(jobs, counting) == ["begins 1 2 [0, 1] False", "begins 2 3 [0, 1, 2] True"]


def test_a_job_without_a_commit_is_not_scaled_but_starts_again(jobs: Jobs) -> None:
    (jobs.folder / "commit-no-more").touch()
    client = jobs.start("submit", "standalone", "-q", jobs.program(COUNTS))
    jobs.until_file("no-commit-comes")  # and it has said that it has begun
    refused = jobs.cli("scale", "last", "3")
    assert refused.code == 2, refused
    assert "a job cannot be scaled without a committed checkpoint" in refused.err, refused
    restarted = jobs.cli("restart", "last")
    assert restarted.code == 0, restarted
    assert "begins again from the start" in restarted.out, restarted
    (jobs.folder / "commit-no-more").unlink()
    jobs.until_event("checkpoint_committed")
    restarted = jobs.cli("restart", "last")
    assert "begins again from commit" in restarted.out, restarted
    assert "running, attempt 3" in restarted.out, restarted
    said = [line.rpartition(" ")[0] for line in finish(jobs, client)]
    assert said == ["begins 1 2 [0, 1]", "begins 2 2 [0, 1]", "begins 3 2 [0, 1]"]


def test_state_of_each_worker_keeps_the_size(jobs: Jobs) -> None:
    client = jobs.start("submit", "standalone", "-q", jobs.program(COUNTS), env={"KIT_SCOPE": "worker"})
    jobs.until_event("checkpoint_committed")
    refused = jobs.cli("scale", "last", "3")
    assert refused.code == 2, refused
    assert "its state fits this number of workers only" in refused.err, refused
    assert "scope 'worker', one value for each of 2 workers" in refused.err, refused
    assert finish(jobs, client) == ["begins 1 2 [0, 1] False"]


def test_groups_scale_alone_and_their_slots_need_not_be_neighbours(jobs: Jobs) -> None:
    tables = "[job.groups.a]\ncount = 2\n[job.groups.b]\ncount = 1\n[job.groups.c]\nscalable = false\n"
    (jobs.folder / "twister2.toml").write_text(tables)
    client = jobs.start("submit", "standalone", "-q", jobs.program(COUNTS))
    jobs.until_event("checkpoint_committed")
    for words, text in (
        (["3"], "which group of workers is meant?"),
        (["c=2"], "the group 'c' keeps its size"),
        (["d=2"], "the job has no group 'd' of workers"),
        (["a=0"], "a group cannot have 0 workers"),
        (["a=1", "a=2"], "the sizes contradict each other"),
    ):
        refused = jobs.cli("scale", "last", *words)
        assert refused.code == 2, refused
        assert text in refused.err, refused
    assert "has 3 workers, attempt 2" in jobs.cli("scale", "last", "a=1").out
    assert "has 6 workers, attempt 3" in jobs.cli("scale", "last", "a=3", "b=2").out
    assert "has 5 workers, attempt 4" in jobs.cli("scale", "last", "b=1").out
    slots = [line.partition("[")[2].partition("]")[0] for line in finish(jobs, client)]
    assert slots == ["0, 1, 2, 3", "0, 2, 3", "0, 1, 4, 2, 5, 3", "0, 1, 4, 2, 3"]


def test_a_new_worker_that_dies_leaves_the_job_as_it_was(jobs: Jobs, counting: Client) -> None:
    commit_no_more(jobs)
    before = set(jobs.pids("supervisor"))
    scaling = jobs.start("scale", "last", "3")
    event = jobs.until_event("worker_stands_by")
    assert event["slot"] == 2
    (new,) = set(jobs.pids("supervisor")) - before
    os.kill(new, signal.SIGKILL)
    failed = scaling.finish()
    assert failed.code == 1, failed
    assert "a new worker (slot 2) did not come" in failed.err, failed
    (jobs.folder / "commit-no-more").unlink()
    assert "has 3 workers, attempt 2" in jobs.cli("scale", "last", "3").out
    assert finish(jobs, counting) == ["begins 1 2 [0, 1] False", "begins 2 3 [0, 1, 2] True"]


def test_a_worker_lost_after_scaling_is_started_again_in_its_slot(jobs: Jobs) -> None:
    client = jobs.start("submit", "standalone", "-q", "-o", "job.attempts=2", jobs.program(COUNTS))
    jobs.until_event("checkpoint_committed")
    assert "has 3 workers, attempt 2" in jobs.cli("scale", "last", "3").out
    os.kill(jobs.pids("supervisor")[-1], signal.SIGKILL)
    jobs.until_event("attempt_started", count=3)
    said = finish(jobs, client)
    assert said[-1] == "begins 3 3 [0, 1, 2] True", said


def test_a_job_is_killed_while_it_is_scaled(jobs: Jobs, counting: Client) -> None:
    commit_no_more(jobs)
    scaling = jobs.start("scale", "last", "4")
    jobs.until_event("worker_stands_by", count=2)
    assert jobs.cli("kill", "last").code == 0
    assert counting.finish().code == 5
    ended = scaling.finish()
    assert ended.code in (1, 5), ended
    assert "ended meanwhile" in ended.err, ended
    wait_until(lambda: not jobs.processes(), 60, lambda: str(jobs.processes()))


def test_a_job_that_ends_before_it_is_scaled(jobs: Jobs, counting: Client) -> None:
    commit_no_more(jobs)
    scaling = jobs.start("scale", "last", "3")
    jobs.until_event("worker_stands_by")
    assert finish(jobs, counting) == ["begins 1 2 [0, 1] False"]
    ended = scaling.finish()
    assert ended.code in (1, 5), ended
    assert "ended meanwhile" in ended.err, ended
    assert "it is completed" in ended.err, ended
    wait_until(lambda: not jobs.processes(), 60, lambda: str(jobs.processes()))


def test_what_cannot_be_scaled(jobs: Jobs, counting: Client) -> None:
    too_many = jobs.cli("scale", "last", "100000")
    assert too_many.code == 4, too_many
    assert "do not fit the free memory" in too_many.err, too_many
    assert jobs.cli("scale", "no-such-job", "2").code == 3
    assert jobs.cli("scale", "last", "two").code == 2
    finish(jobs, counting)
    ended = jobs.cli("scale", "last", "3")
    assert ended.code == 2, ended
    assert "has ended" in ended.err, ended
    assert jobs.cli("restart", "last").code == 2
