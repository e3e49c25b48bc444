"""The handle of a master that is a child process, in processes of their own: signals and limits are a process's."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PRELUDE = """
import os, pathlib, resource, signal, sys, time
from twister2.client import child
from twister2.client.child import MasterChild, start_child
from twister2.spec.errors import DeadlineError, ResourceError
from twister2.worker.processes import UNSEEN

folder = pathlib.Path(sys.argv[1])

def process(body):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(write)
        body(read)
        os._exit(3)
    os.close(read)
    return MasterChild(pid, write)
"""


def run(folder: Path, body: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(body) + "\nprint('done')\n", str(folder)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_an_exit_code_is_seen(tmp_path: Path) -> None:
    run(tmp_path, "assert process(lambda pipe: None).wait(60.0) == 3")


def test_an_end_is_seen_where_sigchld_is_ignored_and_no_later_process_is_killed(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        master = process(lambda pipe: os.read(pipe, 1))
        assert master.poll() is None
        assert master.wait(0.1) is None
        master.hang_up()
        assert master.wait(60.0) == UNSEEN
        killed = []
        child.os.kill = lambda *arguments: killed.append(arguments)
        master.kill()
        assert not killed
        """,
    )


def test_one_that_has_gone_before_it_could_be_looked_at(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        while os.path.exists(f"/proc/{pid}"):
            time.sleep(0.01)
        assert MasterChild(pid, os.pipe()[1]).poll() == UNSEEN
        """,
    )


def test_waiting_works_above_the_descriptors_of_select(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(limit, 4096), limit))
        master = process(lambda pipe: time.sleep(0.3))
        while os.dup(0) < 1100:
            pass
        assert master.wait(60.0) == 3
        """,
    )


def test_a_master_that_takes_nothing_is_an_error_in_time(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
        master = process(lambda pipe: time.sleep(600))
        begun = time.monotonic()
        try:
            master.send([bytes(1 << 20)], 0.3)
        except DeadlineError as error:
            assert str(master.pid) in error.why
        else:
            raise AssertionError
        assert time.monotonic() - begun < 30.0
        master.kill()
        assert master.wait(60.0) == -signal.SIGKILL
        """,
    )


def test_what_is_sent_arrives_whole(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
        def read(pipe):
            data = b""
            while len(data) < 3_000_016:
                data += os.read(pipe, 70_000)
            os._exit(0 if data == (3).to_bytes(8, "big") + b"abc" + (2_999_997).to_bytes(8, "big") + bytes(2_999_997)
                     else 1)

        master = process(read)
        master.send([b"abc", bytes(2_999_997)], 10.0)
        assert master.wait(60.0) == 0
        """,
    )


@pytest.mark.parametrize("trouble", ["no log", "no process", "no process, with threads", "no descriptors"])
def test_a_master_that_cannot_be_started_leaves_nothing(tmp_path: Path, trouble: str) -> None:
    run(
        tmp_path,
        f"""
        trouble = {trouble!r}
        import subprocess, threading
        log = folder / "master.log"
        if trouble == "no log":
            log = folder / "nowhere" / "master.log"
        elif trouble == "no descriptors":
            resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")), 4096))
        else:
            def refuse(*_, **__):
                raise BlockingIOError(11, "Resource temporarily unavailable")
            child.os.fork = subprocess.Popen = refuse
            if "threads" in trouble:
                threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
        before = None if trouble == "no descriptors" else os.listdir("/proc/self/fd")
        try:
            start_child("job", log)
        except ResourceError as error:
            assert error.what == "the job master cannot be started", error
        else:
            raise AssertionError
        if before is not None:
            assert os.listdir("/proc/self/fd") == before
        """,
    )
