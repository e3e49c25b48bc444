"""Options of jobs and flags of commands that other tests do not use: each does what it says."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from twister2_testkit.jobs import Jobs

HELLO = """
    def main(env):
        print("worker", env.worker_id, "of", env.n_workers)
"""


def test_clean_older_than(jobs: Jobs) -> None:
    program = jobs.program(HELLO)
    for _ in range(2):
        assert jobs.submit(program, "-q", workers=1).code == 0
    old, new = jobs.folders()
    state = json.loads((old / "state.json").read_text())
    (old / "state.json").write_text(json.dumps({**state, "ended": time.time() - 2 * 86400}))
    none = jobs.cli("clean", "--older-than", "3")
    assert (none.code, none.out) == (0, "0 jobs cleaned\n"), none
    done = jobs.cli("clean", "--older-than", "1.5")
    assert (done.code, done.out) == (0, "1 job cleaned\n"), done
    assert jobs.folders() == [new]


def test_submit_with_a_file_of_options(jobs: Jobs, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[profile.three.job]\nrm = 'standalone'\nworkers = 3\nname = 'by file'\n")
    program = jobs.program(HELLO)
    done = jobs.start("submit", "three", "-q", "--config", tmp_path / "mine.toml", program).finish()
    assert done.code == 0, done
    assert sorted(done.out.splitlines()) == [f"worker {worker} of 3" for worker in range(3)]
    assert json.loads((jobs.job() / "record.json").read_text())["name"] == "by file"
    missing = jobs.start("submit", "three", "--config", tmp_path / "other.toml", program).finish()
    assert missing.code == 2, missing
    assert "other.toml" in missing.err


def test_jobs_of_another_state_folder(jobs: Jobs, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    done = jobs.submit(jobs.program(HELLO), "-q", "--name", "far", "-o", f"job.state_dir={elsewhere}", workers=1)
    assert done.code == 0, done
    assert jobs.cli("list").out == "no jobs\n"
    assert jobs.cli("status", "far").code == 3
    there = ("--state-dir", elsewhere)
    assert "far" in jobs.cli("list", *there).out
    assert "far" in jobs.cli("status", "far", *there).out
    assert jobs.cli("logs", "far", "-w", "0", *there).out == "worker 0 of 1\n"
    assert "completed" in jobs.cli("wait", "far", *there).out
    assert "completed" in jobs.cli("kill", "far", *there).out
    assert jobs.cli("clean", "far", *there).out == "1 job cleaned\n"
    assert not list((elsewhere / "jobs").iterdir())


def test_jobs_of_a_profile_with_a_state_folder_of_its_own(jobs: Jobs, tmp_path: Path) -> None:
    state = jobs.environment.pop("TWISTER2__JOB__STATE_DIR")
    jobs.environment["XDG_STATE_HOME"] = str(tmp_path / "usual")
    (tmp_path / "twister2.toml").write_text(f"[profile.lab.job]\nrm = 'standalone'\nstate_dir = '{state}'\n")
    done = jobs.submit(jobs.program(HELLO), "-q", "--name", "far", workers=1, profile="lab")
    assert done.code == 0, done
    assert jobs.job().name.startswith("far")
    assert "far" in jobs.cli("list").out
    assert "completed" in jobs.cli("status", "last").out
    assert jobs.cli("logs", "far", "-w", "0").out == "worker 0 of 1\n"
    assert "completed" in jobs.cli("wait", "far").out
    assert "completed" in jobs.cli("kill", "far").out
    assert jobs.cli("status", "far", "--state-dir", tmp_path / "usual").code == 3, (
        "a folder that is given is the only one"
    )
    assert jobs.cli("clean", "--all").out == "1 job cleaned\n"
    unknown = jobs.cli("status", "far")
    assert unknown.code == 3, unknown
    assert all(text in unknown.err for text in (state, str(tmp_path / "usual"), "--state-dir")), unknown


def test_a_package_that_is_too_large(jobs: Jobs, tmp_path: Path) -> None:
    (tmp_path / "large.bin").write_bytes(bytes(2 << 20))
    program = jobs.program(HELLO)
    options = ("-q", "-o", "job.files=large.bin")
    done = jobs.submit(program, *options, "-o", "job.package_limit_mb=1")
    assert done.code == 1, done
    for text in ("[T2-", "1 MiB", "large.bin", "job.package_limit_mb"):
        assert text in done.err, done
    assert not jobs.folders()
    assert jobs.submit(program, *options, "-o", "job.package_limit_mb=3").code == 0


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_the_level_of_log_records(jobs: Jobs, level: str) -> None:
    levels = ["debug", "info", "warning", "error"]
    lines = "".join(f"        env.log.{name}('this is {name}')\n" for name in levels)
    done = jobs.submit(jobs.program(f"    def main(env):\n{lines}"), "-o", f"job.log_level={level}", workers=1)
    assert done.code == 0, done
    shown = [name for name in levels if f"this is {name}" in done.err]
    assert shown == levels[levels.index(level) :], done


def test_the_deadline_of_barriers(jobs: Jobs) -> None:
    program = jobs.program(
        """
        import time
        def main(env):
            env.barrier()
            if env.worker_id == 1:
                time.sleep(float(env.args[0]))
            env.barrier("the second")
        """
    )
    options = ("-q", "-o", "job.barrier_deadline_s=5")
    done = jobs.submit(program, *options, args=["600"])
    assert done.code == 1, done
    assert done.err.count("[T2-") == 1, done
    for text in ("the second", "within 5 s", "did not come: 1"):
        assert text in done.err, done
    assert jobs.submit(program, *options, args=["0.1"]).code == 0


def test_a_job_that_is_queued_for_too_long(jobs: Jobs) -> None:
    """Pods that come in a quarter of an hour: the client gives up, and the queue does not keep the job."""
    options = ("-q", "-o", "rm.hostile.late_s=1000", "-o", "job.queue_deadline_s=1.5")
    done = jobs.submit(jobs.program(HELLO), *options, profile="hostile")
    assert done.code == 1, done
    assert 1.5 < done.seconds < 50
    for text in ("in the queue for longer than 1.5 s", "Unschedulable", "job.queue_deadline_s"):
        assert text in done.err, done
    assert '"state": "queued"' not in jobs.cli("list", "--json").out


NAMES = ("begun", "tidied")


@pytest.mark.parametrize(
    "options",
    [(), ("-o", "job.attempts=1"), ("-o", "rm.standalone.workers_as=threads", "-o", "job.comm=inproc")],
    ids=["processes", "one attempt", "threads"],
)
def test_the_longest_time_of_a_job(jobs: Jobs, options: tuple[str, ...]) -> None:
    program = jobs.program(
        """
        import pathlib, time
        def main(env):
            me = f"{env.attempt}-{env.worker_id}"
            try:
                pathlib.Path(f"begun-{me}").touch()
                while True:
                    time.sleep(0.05)
            finally:
                pathlib.Path(f"tidied-{me}").touch()
        """
    )
    done = jobs.submit(program, "-q", *options, "-o", "job.walltime_s=2", "-o", "job.kill_grace_s=60")
    assert done.code == 5, done
    assert 2 <= done.seconds < 50, done
    assert done.err.count("[T2-J405]") == 1, done
    assert "reached its time limit of 2 s" in done.err, done
    assert "job.walltime_s" in done.err, done
    begun, tidied = ({path.name.partition("-")[2] for path in jobs.folder.glob(f"{name}-*")} for name in NAMES)
    assert begun == tidied <= {"1-0", "1-1"}, "no other attempt, and programs have their grace"
    assert jobs.cli("status", "last").out.count("killed") >= 1


def test_what_a_job_asks_for_reaches_its_manager(jobs: Jobs) -> None:
    """As Slurm would be given it, which need not be here for that."""
    wanted = {"cpus": 2, "memory_mb": 512, "gpus": 1, "walltime_s": 90, "oversubscribe": "true", "name": "mine"}
    options = [word for key, value in wanted.items() for word in ("-o", f"job.{key}={value}")]
    done = jobs.submit(jobs.program(HELLO), "--dry-run", *options, profile="slurm", workers=3)
    assert done.code == 0, done
    for line in (
        "--job-name=mine",
        "--ntasks=3",
        "--cpus-per-task=2",
        "--mem-per-cpu=256",
        "--gpus-per-task=1",
        "--time=0-00:01:30",
        "--overcommit",
    ):
        assert f"#SBATCH {line}" in done.out.splitlines(), (line, done)
    assert not jobs.folders()


def test_the_interface_of_a_master_that_other_hosts_dial(jobs: Jobs) -> None:
    options = ("-q", "-o", "job.start_deadline_s=40", "-o", "job.queue_deadline_s=40")
    done = jobs.submit(jobs.program(HELLO), *options, "-o", "job.interface=lo", profile="hostile")
    assert done.code == 0, done
    wrong = jobs.submit(jobs.program(HELLO), *options, "-o", "job.interface=nosuch0", profile="hostile")
    assert wrong.code not in (0, None), wrong
    assert "tcp://nosuch0:*" in wrong.err, wrong
    assert "job.interface" in wrong.err, wrong


QUEUED = """
    import sys
    import twister2.client.prepare as prepare
    from twister2.cli.main import main
    from twister2.spec.rm import JobState, JobStatus
    from twister2_rm_standalone.processes import ProcessManager

    prepare.WORKER_COMMAND = (sys.executable, "-c", "import time; time.sleep(100)")
    ProcessManager.state = lambda self, handle: JobStatus(JobState.QUEUED, "no room for two")
    sys.exit(main(sys.argv[1:]))
"""


def test_a_master_outside_of_the_queue_waits_no_longer_than_allowed(jobs: Jobs) -> None:
    """The master runs with the client while the manager keeps the workers in its queue."""
    client, program = jobs.program(QUEUED, "client.py"), jobs.program(HELLO)
    done = jobs.python(client, "submit", "standalone", "-q", "-n", "2", "-o", "job.queue_deadline_s=1.5", program)
    assert done.code == 1, done
    assert 1.5 < done.seconds < 50
    for text in ("in the queue for longer than 1.5 s", "no room for two", "job.queue_deadline_s"):
        assert text in done.err, done
