"""Whole jobs on three hosts that share no files with the client: the state folder lies where no host sees it."""

from __future__ import annotations

import collections
import json
import random
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from twister2_testkit.processes import wait_until

pytestmark = [pytest.mark.needs_hosts, pytest.mark.timeout(240)]

SOON = ("-o", "job.lost_after_s=10")
"""For tests of hosts that are lost."""
TWISTER2 = [sys.executable, "-m", "twister2"]
ROOT = Path(__file__).resolve().parents[4]

WHERE = """
import socket

import twister2_net as net


def main(env):
    hosts = net.gather(env, (env.worker_id, socket.gethostname()))
    if env.worker_id == 0:
        print("HOSTS", sorted(hosts))
"""

LONG = """
import socket
import subprocess
import sys
import time


def main(env):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    env.barrier()
    print("UP", env.worker_id, socket.gethostname(), "attempt", env.attempt, flush=True)
    if env.attempt > 1:
        child.kill()
        return
    while True:
        time.sleep(0.2)
        env.barrier()
"""


@pytest.fixture
def submit(rig, hidden, tmp_path):
    """Start ``twister2 submit`` with a program; gives the process, whose output is read by ``text``."""
    started = []

    def start(text, *options, workers=6, hosts=(), args=()):
        program = hidden / "program.py"
        program.write_text(text)
        words = [*TWISTER2, "submit", "standalone", *rig.settings(*hosts), "-o", f"job.workers={workers}"]
        # nobody is taken for lost because the machine is busy: tests of losses say otherwise
        words += ["-o", f"job.state_dir={hidden}/state", "-o", "job.lost_after_s=60", *options, str(program), *args]
        log = tmp_path / f"log-{len(started)}"
        with open(log, "wb") as file:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd=hidden)
        process.log = log
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()
    for folder in (hidden / "state" / "jobs").glob("*"):
        subprocess.run([*TWISTER2, "kill", *state(hidden), folder.name], timeout=60, capture_output=True, check=False)


def state(hidden):
    return ["--state-dir", f"{hidden}/state"]


def until(process, pattern, count=1, seconds=100):
    def found():
        return re.findall(pattern, process.log.read_text())

    wait_until(lambda: len(found()) >= count or process.poll() is not None, seconds, lambda: process.log.read_text())
    assert len(found()) >= count, process.log.read_text()
    return found()


def ended(process, seconds=120):
    assert process.wait(seconds) is not None
    return process.log.read_text()


def test_word_count_over_three_hosts_is_that_of_a_counter(rig, submit, tmp_path):
    rng = random.Random(7)
    books = tmp_path / "books"
    books.mkdir()
    counter = collections.Counter()
    for number in range(6):
        words = [f"word{rng.randrange(300)}" for _ in range(3000)]
        counter.update(words)
        (books / f"{number}.txt").write_text("\n".join(" ".join(words[at : at + 9]) for at in range(0, 3000, 9)))
    text = (ROOT / "examples" / "wordcount.py").read_text()
    process = submit(text, args=[f"{books}/*.txt", "--top", "300", "--output", f"{tmp_path}/counts"])
    said = ended(process)
    assert process.returncode == 0, said
    lines = [line for path in (tmp_path / "counts" / "csv").glob("*") for line in path.read_text().splitlines()]
    rows = [line.rsplit(",", 1) for line in lines if "," in line]
    counts = {word.strip('"'): int(count) for word, count in rows if count.strip().isdigit()}
    assert counts == dict(counter)
    assert len(set(re.findall(r"^ +\d +(h\d)", said, re.MULTILINE))) == 3, said
    rig.until_nothing_is_left()


def test_slots_are_spread_by_the_hosts_numbers(rig, submit):
    said = ended(submit(WHERE, workers=4, hosts=("h1:1", "h2:2", "h3:1")))
    assert "HOSTS [(0, 'h1'), (1, 'h2'), (2, 'h2'), (3, 'h3')]" in said
    rig.until_nothing_is_left()


def test_killed_from_another_shell(rig, submit, hidden):
    process = submit(LONG)
    until(process, "UP", 6)
    (job,) = (hidden / "state" / "jobs").iterdir()
    keys = [json.loads((job / "record.json").read_text())["client_key"]]
    for host in ("h1", "h2", "h3"):
        look = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' ' '"
        shown = rig.do("run", host, "sh", "-c", look)
        assert "TWISTER2_TICKET=" in shown
        assert not any(key in shown for key in keys)
        assert "join_key" not in shown
    modes = {
        rig.do("run", host, "sh", "-c", f"stat -c %a {rig.home}/{host}/state/twister2/hosts/*/*/*/ticket")
        for host in ("h1", "h2", "h3")
    }
    assert modes == {"600\n"}
    done = subprocess.run([*TWISTER2, "kill", *state(hidden), job.name], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "the job was killed" in ended(process)
    rig.until_nothing_is_left()


def test_the_client_dies_and_takes_its_job_along(rig, submit):
    process = submit(LONG)
    until(process, "UP", 6)
    process.send_signal(signal.SIGKILL)
    process.wait()
    rig.until_nothing_is_left()


def test_ctrl_c(rig, submit):
    process = submit(LONG)
    until(process, "UP", 6)
    process.send_signal(signal.SIGINT)
    assert "the job was killed" in ended(process)
    rig.until_nothing_is_left()


def test_detached_the_job_goes_on_and_is_found_again(rig, submit, hidden):
    process = submit(LONG, "--detach")
    ended(process)
    assert process.returncode == 0, process.log.read_text()
    (job,) = (hidden / "state" / "jobs").iterdir()

    def words(*command):
        line = [*TWISTER2, *command, *state(hidden), job.name]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60)
        return done.stdout + done.stderr

    wait_until(lambda: "UP 5 h3" in words("logs"), 60, lambda: words("logs"))
    assert "running" in words("status").lower()
    assert "killed" in words("kill").lower()
    rig.until_nothing_is_left()


def test_a_host_dies_and_its_workers_move(rig, submit):
    process = submit(LONG, "-o", "job.attempts=2", *SOON)
    until(process, "UP", 6)
    rig.do("kill", "h3")
    try:
        said = ended(process, 120)
        assert process.returncode == 0, said
        again = dict(re.findall(r"UP (\d) (h\d) attempt 2", said))
        assert len(again) == 6, said
        assert set(again.values()) == {"h1", "h2"}
        rig.until_nothing_is_left("h1", "h2")
    finally:
        rig.do("boot", "h3")


def test_a_host_is_cut_off_and_its_workers_end_by_themselves(rig, submit):
    process = submit(LONG, "-o", "job.attempts=1", "-o", "job.master_lost_s=4", *SOON)
    until(process, "UP", 6)
    rig.do("isolate", "h2")
    try:
        said = ended(process, 120)
        assert process.returncode != 0
        assert re.search(r"worker \d was lost", said), said  # it is silent, or its manager has lost the host
        wait_until(lambda: not rig.processes("h2"), 60, lambda: str(rig.processes("h2")))
    finally:
        rig.do("heal")
    rig.until_nothing_is_left("h1", "h3")


def test_no_room_for_workers_that_lost_their_host(rig, submit):
    process = submit(LONG, "-o", "job.attempts=2", *SOON, workers=3, hosts=("h1:1", "h2:1", "h3:1"))
    until(process, "UP", 3)
    rig.do("kill", "h3")
    try:
        said = ended(process, 120)
        assert process.returncode != 0
        assert "the others have no room" in said
        assert "h3" in said
    finally:
        rig.do("boot", "h3")
    rig.until_nothing_is_left("h1", "h2")
