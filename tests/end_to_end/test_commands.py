"""The subcommands about jobs: list, status, logs, wait, kill, clean, from shells that did not submit them."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from twister2_testkit.jobs import Done, Jobs
from twister2_testkit.processes import cmdlines_and_environments, wait_until

UNTIL_GO = """
    import pathlib, sys, time
    def main(env):
        print("begun", env.worker_id, flush=True)
        while not any(env.controller.exchange("wait", pathlib.Path("go").exists())):
            time.sleep(0.05)
        print("ended", env.worker_id)
        if "fail" in env.args:
            raise ValueError("as asked")
"""


def detach(jobs: Jobs, *args: str, name: str = "prog.py", options: tuple[str, ...] = ()) -> str:
    program = jobs.program(UNTIL_GO, name)
    done = jobs.start("submit", "standalone", "-n", "2", "--detach", *options, program, *args).finish()
    assert done.code == 0, done
    return done.out.strip()


def facts(jobs: Jobs, job: str) -> dict[str, Any]:
    done = jobs.cli("status", job, "--json")
    assert done.code == 0, done
    data: dict[str, Any] = json.loads(done.out)
    return data


def test_a_detached_job_from_submit_to_clean(jobs: Jobs) -> None:
    job = detach(jobs, options=("--name", "my job"))
    assert jobs.job().name == job
    jobs.until_event("attempt_started")
    wait_until(
        lambda: all(row["memory"] > 1 << 20 for row in facts(jobs, job)["workers"]),
        60,
        lambda: f"the status never shows what the workers do: {facts(jobs, job)}",
    )
    status = facts(jobs, job)
    assert status["state"] == "running"
    assert status["n_workers"] == 2
    assert status["name"] == "my job"
    assert {worker["phase"] for worker in status["workers"]} == {"joined"}
    shown = jobs.cli("status", "my job")
    assert f"{job}  running" in shown.out
    assert "runs the program" in shown.out or "exchange wait at" in shown.out, shown

    assert job in jobs.cli("list", "--active").out
    refused = jobs.cli("clean", job)
    assert refused.code == 2, refused
    assert f"twister2 kill {job}" in refused.err
    waiting = jobs.cli("wait", "last", "--timeout", "0.3")
    assert waiting.code == 124, waiting
    assert "had not ended after 0.3 s" in waiting.err

    follower = jobs.start("logs", "-f", job)
    watchers = [jobs.start("logs", "-f", what, job) for what in ("--events", "--manager")]
    (jobs.folder / "go").touch()
    ended = jobs.cli("wait", job)
    assert (ended.code, ended.out) == (0, f"{job}  completed\n"), ended
    followed = follower.finish()
    assert followed.code == 0, followed
    assert sorted(followed.out.splitlines()) == sorted(
        f"worker-{worker} | {word} {worker}" for worker in (0, 1) for word in ("begun", "ended")
    )
    assert jobs.cli("logs", job, "-w", "1").out == "begun 1\nended 1\n"
    events = [json.loads(line)["event"] for line in jobs.cli("logs", job, "--events").out.splitlines()]
    assert events[-1] == "job_ended"
    assert jobs.cli("logs", job, "--manager").code == 0
    told, managed = (watcher.finish() for watcher in watchers)
    assert (told.code, told.out) == (0, jobs.cli("logs", job, "--events").out), (
        "followed to the end, and every line once"
    )
    assert managed.code == 0, managed
    refused = jobs.cli("logs", job, "--events", "-w", "1")
    assert (refused.code, refused.out) == (2, ""), refused

    (row,) = json.loads(jobs.cli("list", "--json").out)
    assert (row["job"], row["state"], row["n_workers"]) == (job, "completed", 2)
    assert jobs.cli("list", "--active").out == "no jobs\n"
    killed = jobs.cli("kill", job)
    assert (killed.code, "had ended already (completed)" in killed.out) == (0, True), killed
    assert facts(jobs, job)["state"] == "completed"
    cleaned = jobs.cli("clean", "--all")
    assert (cleaned.code, cleaned.out) == (0, "1 job cleaned\n"), cleaned
    assert not jobs.folders()
    assert jobs.cli("list").out == "no jobs\n"


def test_wait_gives_the_exit_code_of_the_job(jobs: Jobs) -> None:
    (jobs.folder / "go").touch()
    job = detach(jobs, "fail")
    done = jobs.cli("wait", job, "--json")
    assert done.code == 1, done
    data = json.loads(done.out)
    assert data["state"] == "failed"
    assert data["error"]["what"] == "ValueError: as asked"
    shown = jobs.cli("status", job)
    assert shown.code == 0
    assert "ValueError: as asked" in shown.out
    assert "Traceback" in shown.out


def test_kill_from_another_shell(jobs: Jobs) -> None:
    client = jobs.start("submit", "standalone", "-n", "2", jobs.program(UNTIL_GO))
    jobs.until_event("attempt_started")
    killed = jobs.cli("kill", "last")
    assert killed.code == 0, killed
    assert killed.out == f"{jobs.job().name}  killed\n"
    done = client.finish()
    wait_until(lambda: not jobs.processes(), 30, lambda: f"left: {jobs.processes()}")
    assert done.code == 5, done
    assert "[T2-J405]" in done.err
    assert facts(jobs, "last")["state"] == "killed"
    assert [event["state"] for event in jobs.events("job_ended")] == ["killed"]


def test_commands_for_programs_that_start_and_end_jobs(jobs: Jobs) -> None:
    program = jobs.program(UNTIL_GO)
    ids = []
    for _ in range(2):
        done = jobs.start("submit", "standalone", "-n", "1", "--detach", "--json", program).finish()
        assert done.code == 0, done
        ids.append(json.loads(done.out)["job"])
    killed = jobs.cli("kill", ids[0], "nonesuch", ids[1], "--json")
    assert killed.code == 3, killed
    assert "there is no job 'nonesuch'" in killed.err
    assert json.loads(killed.out) == [{"job": job, "killed": True, "state": "killed"} for job in ids]
    again = jobs.cli("kill", ids[0], "--json")
    assert json.loads(again.out) == [{"job": ids[0], "killed": False, "state": "killed"}], again
    cleaned = jobs.cli("clean", "nonesuch", ids[0], "--json")
    assert cleaned.code == 3, cleaned
    assert json.loads(cleaned.out) == {"cleaned": ids[:1], "broken_off": 0, "tracebacks": 0}
    assert json.loads(jobs.cli("clean", "--all", "--json").out)["cleaned"] == ids[1:]
    for words in ((), ("--detach", "--dry-run")):
        refused = jobs.start("submit", "standalone", "--json", *words, program).finish()
        assert (refused.code, refused.out) == (2, ""), refused
        assert "--json is for --detach" in refused.err


def test_kill_while_the_job_starts_and_again(jobs: Jobs) -> None:
    for delay_s in (0.0, 0.05, 0.15):
        job = detach(jobs)
        time.sleep(delay_s)
        assert jobs.cli("kill", job).code == 0
        assert jobs.cli("kill", job, job).code == 0
        assert facts(jobs, job)["state"] == "killed"


def test_kill_ends_programs_that_refuse_to_end(jobs: Jobs) -> None:
    program = jobs.program(
        """
        import os, pathlib, signal, subprocess, sys, time
        def main(env):
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
            subprocess.Popen([sys.executable, "-c", stubborn], start_new_session=True)
            pathlib.Path(f"up-{env.worker_id}").touch()
            while True:
                try:
                    time.sleep(600)
                except BaseException:
                    pass
        """
    )
    done = jobs.start("submit", "standalone", "--detach", program).finish()
    jobs.until_file("up-0")
    jobs.until_file("up-1")
    assert jobs.cli("kill", done.out.strip()).code == 0


def test_unknown_jobs_and_ambiguous_ones(jobs: Jobs) -> None:
    for command in ("status", "wait", "kill", "logs", "clean"):
        done = jobs.cli(command, "nonesuch")
        assert done.code == 3, (command, done)
        assert "there is no job 'nonesuch'" in done.err
    assert jobs.cli("status", "last").code == 3
    (jobs.folder / "go").touch()
    ids = [detach(jobs, name=f"same{number}.py") for number in (1, 2)]
    ambiguous = jobs.cli("status", "same")
    assert ambiguous.code == 3, ambiguous
    assert all(job in ambiguous.err for job in ids)
    assert ids[0] in jobs.cli("status", ids[0][:8]).out
    assert ids[1] in jobs.cli("wait", "last").out
    assert jobs.cli("wait", ids[0]).code == 0
    nothing = jobs.cli("clean")
    assert nothing.code == 2, nothing


def test_an_unknown_job_does_not_stop_the_others(jobs: Jobs) -> None:
    first, second = (detach(jobs, name=f"{name}.py") for name in ("first", "second"))
    killed = jobs.cli("kill", first, "nosuch", second, "northis")
    assert killed.code == 3, killed
    assert killed.out == f"{first}  killed\n{second}  killed\n"
    assert all(f"there is no job {name!r}" in killed.err for name in ("nosuch", "northis")), killed
    for age in ("-1", "nan"):
        refused = jobs.cli("clean", "--older-than", age)
        assert refused.code == 2, refused
        refused = jobs.cli("wait", first, "--timeout", age)
        assert refused.code == 2, refused
    assert len(jobs.folders()) == 2
    cleaned = jobs.cli("clean", first, "nosuch", second, first)
    assert cleaned.code == 3, cleaned
    assert cleaned.out == "2 jobs cleaned\n"
    assert "there is no job 'nosuch'" in cleaned.err
    assert cleaned.err.count("twister2: error") <= 1, "a job that was named twice is one job"
    assert jobs.folders() == []


def test_a_reason_of_several_lines_is_one_line(jobs: Jobs) -> None:
    words = "and a rather long story of what was found where nobody had been looking for it"
    program = jobs.program(f"def main(env):\n    raise ValueError('the first line\\n  the second\\n\\n{words}')\n")
    assert jobs.submit(program, workers=1).code == 1
    told = f"ValueError: the first line the second {words}"
    for command in ("status", "wait"):
        assert jobs.cli(command, "last").out.splitlines()[0].endswith(told), command
    headers, *rows = jobs.cli("list").out.splitlines()
    assert [row[headers.index("REASON") :].endswith(told) for row in rows] == [True], rows


def test_dry_run_shows_and_leaves_nothing(jobs: Jobs) -> None:
    done = jobs.submit(jobs.program(UNTIL_GO), "--dry-run")
    assert done.code == 0, done
    assert "twister2.worker" in done.out
    assert not jobs.folders()
    assert not list(jobs.temporary.rglob("*"))


def test_record_and_events_of_a_job(jobs: Jobs) -> None:
    (jobs.folder / "go").touch()
    done = jobs.submit(jobs.program(UNTIL_GO), "--name", "Größe 1")
    assert done.code == 0, done
    record = json.loads((jobs.job() / "record.json").read_text())
    assert record["name"] == "Größe 1"
    assert record["n_workers"] == 2
    assert record["handle"]["rm"] == "standalone"
    assert stat.S_IMODE((jobs.job() / "record.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(jobs.job().stat().st_mode) == 0o700
    events = jobs.events()
    kinds = [event["event"] for event in events]
    assert kinds[-1] == "job_ended"
    assert [event["time"] for event in events] == sorted(event["time"] for event in events)
    states = [event["state"] for event in events if event["event"] == "state"]
    assert states[-3:] == ["starting", "running", "completed"]
    assert sorted(event["worker"] for event in events if event["event"] == "worker_joined") == [0, 1]
    assert sorted(event["worker"] for event in events if event["event"] == "worker_ended") == [0, 1]


def secrets_of(folder: Path, state: Path) -> list[str]:
    record = json.loads((folder / "record.json").read_text())
    tickets = [json.loads(path.read_bytes()) for path in state.rglob("ticket")]
    assert tickets, "no ticket was found: this test looks in the wrong place"
    return [record["client_key"], *(ticket["join_key"] for ticket in tickets)]


def test_no_secret_in_command_lines_environments_and_logs(jobs: Jobs) -> None:
    client = jobs.start("submit", "standalone", "-n", "2", jobs.program(UNTIL_GO))
    jobs.until_event("attempt_started")
    secrets = secrets_of(jobs.job(), jobs.state)
    mine = jobs.processes()
    for pid, found in cmdlines_and_environments():
        if pid in mine:
            assert not [secret for secret in secrets if secret.encode() in found], f"{mine[pid]} shows a key"
    for path in (*jobs.state.rglob("*"), *jobs.temporary.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            found = [secret for secret in secrets if secret.encode() in data]
            if path.name in ("record.json", "ticket"):
                assert stat.S_IMODE(path.stat().st_mode) == 0o600
            else:
                assert not found, f"{path} holds a key"
    (jobs.folder / "go").touch()
    done: Done = client.finish()
    assert done.code == 0, done
    assert not [secret for secret in secrets if secret in done.out + done.err]


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&- </dev/null"])
def test_closed_standard_streams_do_no_harm(jobs: Jobs, closed: str) -> None:
    program = jobs.program("def main(env):\n    print(env.worker_id)\n", "quiet.py")
    command = f"{sys.executable} -m twister2 submit standalone -q -n 1 {program} {closed}"
    done = subprocess.run(["sh", "-c", command], check=False, timeout=60, env=jobs.environment)
    assert done.returncode == 0
