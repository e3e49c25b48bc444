"""What the commands say and leave in corners: where a value came from, deadlines, broken-off submissions, files."""

from __future__ import annotations

import os
import shlex
import subprocess
import sysconfig
import time
from pathlib import Path

from twister2_testkit.jobs import Jobs


def test_the_origin_of_a_bad_number_of_workers(jobs: Jobs) -> None:
    program = jobs.program(
        """
        import twister2

        def main(env):
            pass

        if __name__ == "__main__":
            try:
                twister2.run(main, workers=0)
            except twister2.Twister2Error as error:
                print(error)
        """
    )
    done = jobs.cli("submit", "standalone", "-n", "0", program)
    assert done.code == 2, done
    assert "job.workers: must be >= 1: 0  [-n]" in done.err
    assert "[workers= of run()]" in jobs.python(program).out


def test_wait_has_an_exit_code_for_its_own_deadline(jobs: Jobs) -> None:
    program = jobs.program("import time\ndef main(env):\n    time.sleep(600)\n")
    job = jobs.cli("submit", "standalone", "-n", "1", "--detach", program).out.strip()
    done = jobs.cli("wait", job, "--timeout", "0.3")
    assert done.code == 124, done
    assert "had not ended after 0.3 s" in done.err
    assert jobs.cli("kill", job).code == 0
    assert jobs.cli("wait", job, "--timeout", "0.3").code == 5


def begun(jobs: Jobs, name: str, submitting: str | None) -> Path:
    folder = jobs.state / "jobs" / name
    (folder / "logs").mkdir(parents=True)
    if submitting is not None:
        (folder / "submitting").write_text(submitting)
    return folder


def test_submissions_that_were_broken_off_are_seen_and_removed(jobs: Jobs) -> None:
    from twister2.worker.processes import start_ticks

    host, me = os.uname().nodename, os.getpid()
    killed = begun(jobs, "killed-1", f"{host} {me} {start_ticks(me) + 1}")
    at_once = begun(jobs, "killed-2", None)
    os.utime(at_once, (time.time() - 100, time.time() - 100))
    alive = begun(jobs, "alive-1", f"{host} {me} {start_ticks(me)}")
    new = begun(jobs, "alive-2", None)
    elsewhere = begun(jobs, "alive-3", "another-host 1 1")
    listed = jobs.cli("list")
    assert listed.code == 0
    assert [line.split()[2].rstrip(",") for line in listed.err.splitlines()] == [str(killed), str(at_once)], listed
    cleaned = jobs.cli("clean", "--all")
    assert cleaned.code == 0, cleaned
    assert "2 submissions removed" in cleaned.out
    assert sorted(jobs.folders()) == sorted([alive, new, elsewhere])
    for folder in (alive, elsewhere):
        (folder / "submitting").unlink()


def test_a_job_leaves_no_mark_of_its_submission(jobs: Jobs) -> None:
    assert jobs.submit(jobs.program("def main(env):\n    pass\n"), workers=1).code == 0
    assert not (jobs.job() / "submitting").exists()


def test_saved_tracebacks_are_removed_with_all_jobs(jobs: Jobs) -> None:
    saved = jobs.temporary / "twister2-abc.traceback"
    other = jobs.temporary / "twister2-other.txt"
    for path in (saved, other):
        path.write_text("x")
    done = jobs.cli("clean", "--all")
    assert (done.code, done.out) == (0, "0 jobs cleaned\n1 saved traceback removed\n"), done
    assert other.exists()
    other.unlink()
    assert not saved.exists()


def test_the_demo_shows_a_command_that_can_be_pasted() -> None:
    import importlib.util

    root = Path(__file__).resolve().parents[2]
    spec = importlib.util.spec_from_file_location("demo", root / "tools" / "demo.py")
    assert spec is not None
    assert spec.loader is not None
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    library = Path(sysconfig.get_path("stdlib"))
    shown = subprocess.run(
        ["sh", "-c", f"printf '%s\\n' {demo.inputs_in_shell(library)}"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    run = {str(path) for pattern in demo.library_globs(library) for path in Path("/").glob(pattern.lstrip("/"))}
    assert {path for path in shown if "__pycache__" not in path} == run
    assert shlex.split(demo.inputs_in_shell(Path("/a b"))) != []
