"""A job master that hangs is killed by the process beside it, and one that does something is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from twister2.master.watch import Watch
from twister2_testkit.processes import ended, wait_until

pytestmark = pytest.mark.timeout(120)

MASTER = """
import os, signal, sys, time
from twister2.master.watch import Watch

with Watch(float(sys.argv[1])) as watch:
    watch.beat()
    print("open", flush=True)
    if sys.argv[2] == "stops":
        os.kill(os.getpid(), signal.SIGSTOP)
    while sys.argv[2] == "beats" and not os.path.exists(sys.argv[3]):
        watch.beat()
        time.sleep(0.1)
watch.beat()
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("alone", flush=True)
"""


@pytest.fixture
def master():
    """Starts a process that opens a watch."""
    started = []

    def start(*arguments):
        command = [sys.executable, "-c", MASTER, *map(str, arguments)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "open\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait(10)
        process.stdout.close()
        process.stderr.close()


def end_of(process):
    """Exit code, and the rest of what it wrote."""
    out, err = process.stdout.read(), process.stderr.read()
    return process.wait(60), out, err


def beside(process):
    """The one child of a process."""
    (pid,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(pid)


def ignores(pid, number):
    """Whether a process ignores a signal."""
    (line,) = (one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("SigIgn:"))
    return bool(int(line.split()[1], 16) >> (number - 1) & 1)


def test_one_that_is_stopped_is_killed_and_the_reason_written(master):
    process = master(5, "stops")
    code, out, err = end_of(process)
    assert (code, out) == (-signal.SIGKILL, "")
    assert err == "the job master has done nothing for 5 s: it hangs, and is killed\n"


def test_one_that_beats_is_not_and_nothing_is_left_beside_it(master, tmp_path):
    process = master(30, "beats", tmp_path / "go")
    watcher = beside(process)
    # as is sent to all that carries the job's mark
    wait_until(lambda: ignores(watcher, signal.SIGTERM), 30.0, lambda: "SIGTERM ends it")
    (tmp_path / "go").touch()
    assert end_of(process) == (0, "alone\n", "")


def test_it_ends_with_a_master_that_is_killed(master):
    process = master(60, "stops")
    watcher = beside(process)
    process.kill()
    wait_until(lambda: ended(watcher), 30.0, lambda: "it watches nobody")
    assert end_of(process) == (-signal.SIGKILL, "", "")


def test_nobody_watches_where_there_is_no_limit(master):
    assert end_of(master(0, "waits")) == (0, "alone\n", "")


@pytest.mark.parametrize(("silent_s", "turns"), [(0.1, "2"), (2.0, "2"), (2.5, "3"), (15.0, "15")])
def test_one_turn_without_a_beat_is_no_silence(silent_s, turns, monkeypatch, capsys):
    """It beats once in a turn, and a little late."""
    commands = []

    def spawn(path, command, *rest, **options):
        commands.append(command)
        raise OSError("no more processes")

    monkeypatch.setattr(os, "posix_spawn", spawn)
    with Watch(silent_s) as watch:
        watch.beat()
    assert [command[-1] for command in commands] == [turns]
    assert "nobody watches whether this job master hangs: no more processes" in capsys.readouterr().err
