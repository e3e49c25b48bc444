"""Waiting for the end of processes, and ending what is left of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from twister2.spec.processes import await_ends
from twister2.worker import forkserver

LONG_S = 60.0
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def test_the_wait_ends_with_the_processes_reaped_or_not(sleeper):
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
        sleeper.kill()
        begun = time.monotonic()
        await_ends([gone.pid, sleeper.pid], LONG_S)
    assert time.monotonic() - begun < LONG_S / 2
    state = os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    assert state is not None
    assert state.si_status == signal.SIGKILL


def test_the_wait_for_a_process_that_lives_has_an_end(sleeper):
    begun = time.monotonic()
    await_ends([sleeper.pid, sleeper.pid], 0.2)
    assert 0.1 < time.monotonic() - begun < LONG_S / 2
    assert sleeper.poll() is None


def test_a_python_that_knows_no_descriptors_of_processes(sleeper, monkeypatch):
    monkeypatch.delattr(os, "pidfd_open")
    begun = time.monotonic()
    await_ends([sleeper.pid], 0.2)
    assert 0.1 < time.monotonic() - begun < LONG_S / 2
    sleeper.kill()
    await_ends([sleeper.pid], LONG_S)
    assert time.monotonic() - begun < LONG_S / 2


def ended(code: str) -> subprocess.CompletedProcess[str]:
    """An interpreter of its own: what is below it is ended."""
    begin = "import os, subprocess, sys, time\nfrom twister2.worker import processes\n"
    return subprocess.run([sys.executable, "-c", begin + code], capture_output=True, text=True, timeout=LONG_S)


def test_who_has_no_children_looks_at_no_other_process():
    code = "processes.descendants = None\nprocesses.end_leftovers(os.getpid(), keep=set(), grace_s=10.0)\nprint('done')"
    done = ended(code)
    assert (done.returncode, done.stdout) == (0, "done\n"), done


def test_who_has_only_the_children_that_stay_looks_at_no_other_process():
    done = ended(
        "child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)\n"
        "everyone, processes.descendants = processes.descendants, None\n"
        "processes.end_leftovers(os.getpid(), keep={child.pid}, grace_s=10.0)\n"
        "print(child.poll())\n"
        "processes.descendants = everyone\n"
        "processes.end_leftovers(os.getpid(), keep={child.pid}, below_kept=True, grace_s=10.0)\n"
        "print(child.poll())\n"
        "child.kill()\n"
    )
    assert (done.returncode, done.stdout) == (0, "None\nNone\n"), done


def test_a_kernel_that_does_not_name_children():
    done = ended(
        "processes.own_children = lambda: None\n"
        f"child = subprocess.Popen([sys.executable, '-c', {STUBBORN!r}], stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "processes.end_leftovers(os.getpid(), keep=set(), grace_s=0.1)\n"
        "print(os.path.exists(f'/proc/{child.pid}'))\n"
    )
    assert (done.returncode, done.stdout) == (0, "False\n"), done


def test_what_is_left_is_ended_whatever_it_does_against_it():
    done = ended(
        f"child = subprocess.Popen([sys.executable, '-c', {STUBBORN!r}], stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "processes.end_leftovers(os.getpid(), keep=set(), grace_s=0.1)\n"
        "print(os.path.exists(f'/proc/{child.pid}'))\n"
    )
    assert (done.returncode, done.stdout) == (0, "False\n"), done


def test_a_fork_server_that_was_reaped_is_not_ended_again(sleeper, monkeypatch):
    """Its number may be another process's by now; that of the sleeper, say."""
    monkeypatch.setattr(forkserver, "own_children", lambda: None)
    server = object.__new__(forkserver.ForkServer)
    server.pid, server._code = sleeper.pid, None
    server.note([(sleeper.pid, 0)])
    server.end()
    assert sleeper.poll() is None
