"""A job master that is the first process of a PID namespace runs below another one."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from twister2.master.first import step_down
from twister2_testkit.processes import wait_until

pytestmark = pytest.mark.timeout(120)

MASTER = """
import os, signal, sys, time
from twister2.master.first import step_down
from twister2.master.watch import Watch

step_down()
print("process", os.getpid() > 1, os.getppid(), flush=True)
if sys.argv[1] == "hangs":
    with Watch(2.0) as watch:
        watch.beat()
        os.kill(os.getpid(), signal.SIGSTOP)
if sys.argv[1] == "waits":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    print("ready", flush=True)
    time.sleep(100)
if sys.argv[1] == "orphan" and os.fork() == 0:
    if os.fork() == 0:
        os.execlp("sh", "sh", "-c", "exit 3")
    os._exit(4)
time.sleep(0.2)
sys.exit(5)
"""

TOGETHER = """
import os, signal, sys
from twister2.master import first

signal.pthread_sigmask(signal.SIG_BLOCK, (*first.PASSED_ON, signal.SIGCHLD))
children = [os.fork() or os._exit(code) for code in (3, 5)]
for pid in children:
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
os.kill(os.getpid(), signal.SIGTERM)
sys.exit(first._end_of(children[1]))
"""


@pytest.fixture
def namespace():
    """Starts the program as the first process of a PID namespace."""
    own = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if subprocess.run([*own, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no PID namespace can be made here")
    started = []

    def start(what):
        command = [*own, sys.executable, "-c", MASTER, what]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "process True 1\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait(10)
        process.stdout.close()
        process.stderr.close()


def test_any_other_process_stays_what_it_is():
    assert step_down() is None


def test_it_can_be_killed_when_it_hangs(namespace):
    process = namespace("hangs")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGKILL, err
    assert "it hangs, and is killed" in err


@pytest.mark.parametrize("what", ["ends", "orphan"])
def test_its_exit_code_is_the_containers_whoever_ends_before(namespace, what):
    process = namespace(what)
    assert process.wait(60) == 5, process.stderr.read()


def test_what_has_ended_together_is_taken_in_together_and_a_signal_may_come_too_late():
    assert subprocess.run([sys.executable, "-c", TOGETHER], timeout=60, check=False).returncode == 5


def test_what_tells_the_container_to_end_tells_the_master(namespace):
    process = namespace("waits")
    assert process.stdout.readline() == "ready\n"
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    wait_until(lambda: bool(children.read_text()), 30.0, lambda: "no child")
    subprocess.run(["kill", "-TERM", *children.read_text().split()], check=True)
    assert process.wait(60) == 7, process.stderr.read()
