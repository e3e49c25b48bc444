"""Strangers and copies nobody needs, on the socket of a running job; a master that does not answer."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest
import zmq

from twister2.control import messages
from twister2.control.channel import Dialer
from twister2_testkit.jobs import Jobs
from twister2_testkit.processes import wait_until

pytestmark = pytest.mark.faults

UNTIL_GO = """
    import pathlib, time
    def main(env):
        while not any(env.controller.exchange("wait", pathlib.Path("go").exists())):
            time.sleep(0.02)
        print("done", env.worker_id)
"""


def test_strangers_do_not_disturb_a_job(jobs: Jobs) -> None:
    client = jobs.start("submit", "standalone", "-q", "-n", "2", jobs.program(UNTIL_GO))
    jobs.until_event("attempt_started")
    record = json.loads((jobs.job() / "record.json").read_text())
    (address,) = record["addresses"]
    for data in (os.urandom(10_000), b"GET / HTTP/1.0\r\n\r\n", b""):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(address.removeprefix("ipc://"))
            sock.sendall(data)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    plain = context.socket(zmq.DEALER)
    plain.connect(address)
    plain.send_multipart(messages.encode("kill", {"reason": "a stranger wants it"}))
    dialer = Dialer([address], record["master_public"], deadline_s=30.0)
    dialer.send("kill", {"reason": "somebody without the key wants it"})
    assert dialer.request("attach", {"client_key": "wrong"}, ("attached", "refused"), 30.0).kind == "refused"
    dialer.send("kill", {"reason": "somebody without the key wants it"})
    hello = {"slot": 0, "attempt": 1, "join_key": "x", "key": "", "pid": 1, "node": {"host": "x"}}
    assert dialer.request("hello", hello, ("welcome", "refused"), 30.0).kind == "refused"
    time.sleep(0.2)
    (jobs.folder / "go").touch()
    done = client.finish()
    assert done.code == 0, done
    assert sorted(done.out.splitlines()) == ["done 0", "done 1"]
    dialer.close()
    plain.close(linger=0)
    context.term()


def test_a_second_copy_of_a_slot_goes_away_and_the_first_goes_on(jobs: Jobs) -> None:
    client = jobs.start("submit", "standalone", "-q", "-n", "2", jobs.program(UNTIL_GO))
    jobs.until_event("attempt_started")
    (ticket,) = jobs.state.rglob("ticket")
    copy = jobs.start_python("-m", "twister2.worker", env={"TWISTER2_TICKET": str(ticket), "TWISTER2_SLOT": "1"})
    refused = copy.finish()
    assert refused.code == 0, refused
    assert "slot 1 is already filled" in refused.err
    (jobs.folder / "go").touch()
    done = client.finish()
    assert done.code == 0, done
    assert sorted(done.out.splitlines()) == ["done 0", "done 1"]
    assert [event["slot"] for event in jobs.events("join_refused")] == [1]


def test_kill_works_when_the_master_does_not_answer(jobs: Jobs) -> None:
    done = jobs.start("submit", "standalone", "-n", "2", "--detach", jobs.program(UNTIL_GO)).finish()
    assert done.code == 0, done
    jobs.until_event("attempt_started")
    (master,) = jobs.pids("master")
    os.kill(master, signal.SIGSTOP)
    killed = jobs.cli("kill", done.out.strip())
    assert killed.code == 0, killed
    wait_until(lambda: not jobs.processes(), 30, lambda: f"left: {jobs.processes()}")
    assert '"killed"' in jobs.cli("status", "last", "--json").out


def test_a_stopped_master_ends_the_workers_in_time(jobs: Jobs) -> None:
    options = ("-o", "job.master_lost_s=2", "-o", "job.heartbeat_s=0.25")
    done = jobs.start("submit", "standalone", "-n", "2", "--detach", *options, jobs.program(UNTIL_GO)).finish()
    jobs.until_event("attempt_started")
    (master,) = jobs.pids("master")
    os.kill(master, signal.SIGSTOP)
    wait_until(lambda: not set(jobs.processes()) - {master}, 60, lambda: f"left: {jobs.processes()}")
    said = "".join(path.read_text() for path in Path(jobs.job() / "slots").glob("slot-*.log"))
    assert "[T2-J404] the job master has been silent for 2 s" in said
    os.kill(master, signal.SIGCONT)
    assert jobs.cli("wait", done.out.strip(), "--timeout", "50").code == 1
