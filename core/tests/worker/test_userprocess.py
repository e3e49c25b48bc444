"""The supervisor's view of the user process: given up before it was forked, and held back when it says too much.

Each runs in a process of its own, as a supervisor does: it ends everything below itself.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

PRELUDE = """
import json, os, pathlib, signal, sys, time
from twister2.control.messages import OUTPUT_WINDOW
from twister2.control.package import MANIFEST, Manifest, pack, unpack
from twister2.spec.errors import StepAbortedError
from twister2.worker.forkserver import ForkServer
from twister2.worker.processes import descendants
from twister2.worker.userprocess import UserProcess

ERROR = StepAbortedError("aborted", why="a test", remedy="none").to_dict()
folder = pathlib.Path(sys.argv[1])
server = ForkServer()

def user(attempt=1, source="def main(env): ..."):
    program = {"kind": "file", "path": "program.py", "original": "program.py", "function": "main"}
    python = "%d.%d" % sys.version_info[:2]
    manifest = Manifest(program, (), str(folder), False, python, "0", {"tables": {"job": JOB}}, {}, {})
    package = folder / f"package-{attempt}"
    unpack(pack(manifest, {"program.py": source.encode()}), package)
    job = {"worker_id": 0, "attempt": attempt, "n_workers": 1, "cpus": 1.0, "package": str(package)}
    return UserProcess(server, job, None)

def reported():
    frame = server.pipe.receive_within(30.0)
    assert frame is not None
    return frame[0], frame[1]

JOB = {"barrier_deadline_s": 0, "log_level": "info", "result_limit_mb": 1, "threads_deadline_s": 1}
NODE = {"host": "h", "addresses": [], "boot_id": "b", "node": "", "rack": "", "datacenter": ""}
WORKER = {"worker_id": 0, "slot": 0, "node": 0, "group": "worker", "cpus": 1.0, "memory_mb": 100, "gpus": 0}
START = {
    "nodes": [NODE],
    "job_id": "j", "job_name": "j", "attempt": 1, "workers": [WORKER], "session": "s", "keys": {}, "checkpoint": 0,
    "state_root": "", "state_shared": True, "curve": ["", ""], "runtime_dir": str(folder), "volatile": "",
}
"""


def run(folder: Path, body: str) -> str:
    script = PRELUDE + textwrap.dedent(body) + "\nos.kill(server.pid, signal.SIGKILL)\nprint('done')\n"
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("done\n"), done
    return done.stdout


def test_one_given_up_before_it_was_forked_is_ended_as_soon_as_it_is(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
        os.kill(server.pid, signal.SIGSTOP)
        process = user(source="import time; time.sleep(600)")
        process.abort(ERROR, grace_s=30.0)
        process.kill_if_due()
        os.kill(server.pid, signal.SIGCONT)
        begun = time.monotonic()
        kind, body = reported()
        assert kind == "forked", kind
        process.is_forked(body["pid"])
        assert reported() == ("ended", {"attempt": 1, "code": -signal.SIGKILL})
        assert time.monotonic() - begun < 25.0
        """,
    )


def test_one_that_was_forked_but_not_reported_is_ended_by_its_deadline(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
        process = user(source="import time; time.sleep(600)")
        while len(descendants(os.getpid())) < 2:  # fork server and user process
            time.sleep(0.01)
        assert process.pid == 0
        process.abort(ERROR, grace_s=30.0)
        process.kill_if_due()
        assert descendants(os.getpid()) == [server.pid]
        """,
    )


def test_reports_of_an_attempt_that_was_given_up_are_told_apart(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
        os.kill(server.pid, signal.SIGSTOP)
        first = user(1, "import time; time.sleep(600)")
        first.end()
        first.close()
        second = user(2, "import time; time.sleep(600)")
        os.kill(server.pid, signal.SIGCONT)
        pids = {}
        while len(pids) < 2:
            kind, body = reported()
            if kind == "forked":
                pids[body["attempt"]] = body["pid"]
        assert pids[1] != pids[2]
        second.end()
        """,
    )


def test_a_program_that_logs_in_a_tight_loop_waits_until_it_was_taken_in(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
        process = user(source="def main(env):\\n for n in range(60_000): env.log.info('%06d %s', n, 'x' * 60)")
        process.tell("start", {}, json.dumps(START).encode())
        texts, held_back, idle = [], 0, time.monotonic()
        while len(texts) < 60_000:
            assert time.monotonic() - idle < 40.0, (len(texts), process.on_the_way, list(process.written()))
            before, size = len(texts), process.on_the_way
            texts += [body["text"] for kind, body, _ in process.frames() if kind == "log"]
            assert process.on_the_way <= OUTPUT_WINDOW + 2_000
            if len(texts) > before:
                idle = time.monotonic()
            elif process.must_wait:
                assert process.readable == []
                held_back += 1
                process.on_the_way = 0  # the master has taken all in
            else:
                time.sleep(0.001)
        assert texts == ["%06d %s" % (number, "x" * 60) for number in range(60_000)]
        assert held_back >= 5
        """,
    )


def test_one_that_does_not_read_holds_up_nobody(tmp_path: Path) -> None:
    """The start of a job of many workers is more than a socket takes, and the program may still be importing."""
    run(
        tmp_path,
        """
        process = user(source="def main(env): env.log.info('%d', env.n_workers)")
        assert reported()[0] == "forked"
        user_pid = [pid for pid in descendants(os.getpid()) if pid != server.pid][0]
        os.kill(user_pid, signal.SIGSTOP)
        begun = time.monotonic()
        workers = [{**WORKER, "worker_id": number, "slot": number} for number in range(4000)]
        process.tell("start", {}, json.dumps({**START, "workers": workers}).encode())
        process.tell("event", {"kind": "joined", "worker_id": 1, "attempt": 1, "text": ""}, b"blob" * 100_000)
        assert time.monotonic() - begun < 25.0
        assert process.pipe.wants_write
        os.kill(user_pid, signal.SIGCONT)
        texts = []
        while not texts or process.pipe.wants_write:  # the event may still be on its way, or come too late
            assert time.monotonic() - begun < 60.0
            process.pipe.flush()
            texts += [body["text"] for kind, body, _ in process.frames() if kind == "log"]
            time.sleep(0.001)
        assert texts == ["4000"], texts
        """,
    )


def test_what_a_process_is_told_that_has_gone_is_dropped(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
        process = user(source="import os; os.kill(os.getpid(), 9)")
        assert reported()[0] == "forked"
        process.tell("start", {}, json.dumps(START).encode())
        assert reported()[0] == "ended"
        process.tell("event", {"text": "x" * 1_000_000})
        process.pipe.flush()
        assert not process.pipe.wants_write
        """,
    )


def test_one_that_was_told_to_start_has_its_grace_and_its_interrupt_although_its_fork_is_reported_late(
    tmp_path: Path,
) -> None:
    run(
        tmp_path,
        """
        path = folder / "seen"
        source = f'''
        def main(env):
            import pathlib, signal, time
            seen = []
            signal.signal(signal.SIGINT, lambda *_: seen.append(1))
            pathlib.Path({str(path)!r} + "-up").touch()
            while not seen:
                time.sleep(0.01)
            time.sleep(0.2)
            pathlib.Path({str(path)!r}).touch()
        '''
        import textwrap
        process = user(source=textwrap.dedent(source))
        process.tell("start", {}, json.dumps(START).encode())
        while not (folder / "seen-up").exists():
            time.sleep(0.01)
        process.abort(ERROR, grace_s=20.0, interrupt=True)
        process.kill_if_due()
        kind, body = reported()
        assert kind == "forked"
        process.is_forked(body["pid"])
        process.kill_if_due()
        kind, body = reported()
        assert kind == "ended", kind
        assert path.exists()
        """,
    )


def test_a_fork_that_the_system_refuses_is_reported_and_the_fork_server_goes_on(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
        os.kill(server.pid, signal.SIGKILL)
        real, calls = os.fork, []

        def fork():
            calls.append(1)
            if len(calls) == 2:
                raise BlockingIOError(11, "Resource temporarily unavailable")
            return real()

        os.fork = fork
        server = ForkServer()
        first = user(1)
        assert reported() == ("refused", {"attempt": 1, "why": "Resource temporarily unavailable"})
        first.close()
        second = user(2, "import time; time.sleep(600)")
        assert reported()[0] == "forked"
        second.end()
        """,
    )


def test_a_fork_server_that_has_gone_is_asked_without_an_error_and_says_how_it_ended(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
        real = server
        server = ForkServer()
        os.kill(server.pid, signal.SIGKILL)
        assert server.how_it_ended(30.0).startswith("ended with signal SIGKILL"), server.how_it_ended()
        user(1)
        assert server.pipe.receive_within(30.0) is None
        assert server.pipe.closed
        server = real
        """,
    )
