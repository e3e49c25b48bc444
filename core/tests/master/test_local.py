"""The master as a thread: what waits in its inbox holds up neither beats nor a kill, and nobody waits for it for
ever.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from twister2.config import JobConfig
from twister2.master.facts import JobFacts
from twister2.master.local import LocalMaster
from twister2.spec.rm import JobState, ResourceGroup

NODE = {"host": "h", "addresses": ["10.0.0.1"], "boot_id": "b", "node": "", "rack": "", "datacenter": ""}
NOTES = {"attempt": 1, "steps": [], "waits_for": "", "memory": 0}


def no_store() -> Any:
    raise AssertionError("no store is asked for")


class Peer:
    """A worker, or the client, that answers nothing."""

    def __init__(
        self, master: LocalMaster, name: str, notes: Callable[[], dict[str, Any] | None] | None = None
    ) -> None:
        self.heard: list[str] = []
        self.at_the_end: Callable[[], object] = lambda: None
        self._master, self._name = master, name.encode()
        master.register(self._name, lambda message: self._hear(message.kind), notes)

    def _hear(self, kind: str) -> None:
        self.heard.append(kind)
        if kind == "end":
            self.at_the_end()

    def say(self, kind: str, **body: Any) -> None:
        self._master.send(self._name, kind, body)

    def hello(self, slot: int) -> None:
        self.say(
            "hello", slot=slot, join_key="join", attempt=1, node=NODE, memory_available_mb=1000, key="", pid=os.getpid()
        )

    def wait_for(self, kind: str) -> None:
        deadline = time.monotonic() + 20
        while kind not in self.heard:
            assert time.monotonic() < deadline, self.heard
            time.sleep(0.005)


@pytest.fixture
def master(tmp_path: Path) -> Iterator[LocalMaster]:
    config = JobConfig(workers=2, heartbeat_s=0.1, lost_after_s=0.5, kill_grace_s=0.1)
    facts = JobFacts("job-1", "job", config, (ResourceGroup("worker", 2),), "p", "client")
    master = LocalMaster(facts, "join", b"package", tmp_path, no_store)
    yield master
    master.kill("the test is over")
    assert master.join(20)


def running(master: LocalMaster) -> tuple[Peer, Peer, Peer]:
    client = Peer(master, "client")
    client.say("attach", client_key="client", follow=True)
    workers = [Peer(master, f"w{slot}", lambda: NOTES if "welcome" in workers[0].heard else None) for slot in (0, 1)]
    for slot, worker in enumerate(workers):
        worker.hello(slot)
    master.start()
    for worker in workers:
        worker.wait_for("start")
    return client, workers[0], workers[1]


def slow(kind: str, body: dict[str, Any]) -> None:
    if kind == "output":
        time.sleep(0.001)


def flood(master: LocalMaster, worker: Peer) -> None:
    """More than two seconds of work for the master."""
    master.job.clients.listeners.append(slow)
    for _ in range(2000):
        worker.say("output", attempt=1, stream="stdout", text="x\n")


def test_who_writes_nothing_is_not_lost_behind_the_flood_of_another(master: LocalMaster) -> None:
    client, writes, quiet = running(master)
    flood(master, writes)
    while client.heard.count("output") < 2000:
        time.sleep(0.02)
    assert master.job.state is JobState.RUNNING
    assert quiet.heard.count("ack") >= 5
    assert "abort" not in quiet.heard


def test_a_kill_does_not_wait_for_what_came_before_it(master: LocalMaster) -> None:
    client, writes, quiet = running(master)
    taken: list[int] = []
    quiet.at_the_end = lambda: taken.append(client.heard.count("output"))
    killed = threading.Event()
    master.job.clients.listeners.append(lambda kind, body: killed.wait(20))
    flood(master, writes)
    master.kill("enough")
    killed.set()
    quiet.wait_for("end")
    assert taken[0] < 1500
    for worker in (writes, quiet):
        worker.say("bye")
    client.wait_for("ended")
    assert master.job.state is JobState.KILLED
    assert master.job.error is not None
    assert master.job.error.why == "enough"


def test_one_that_was_never_started_is_let_go(master: LocalMaster) -> None:
    before = Peer(master, "w0")
    open_files = len(os.listdir("/proc/self/fd"))
    assert master.join(1)
    assert len(os.listdir("/proc/self/fd")) < open_files
    assert master.join(1)
    assert not master.alive()
    assert before.heard == Peer(master, "w1").heard == ["end"]


def test_who_comes_when_it_has_ended_hears_so(master: LocalMaster) -> None:
    client, *workers = running(master)
    for worker in workers:
        worker.say("ended", attempt=1, code=0, returned=True, failed=False, tail=[], steps=[], last=[])
        worker.say("bye")
    client.wait_for("ended")
    assert master.join(10)
    assert Peer(master, "late").heard == ["end"]


def test_who_is_told_twice_waits_for_nobody(tmp_path: Path) -> None:
    """A second Ctrl-C while workers that do not listen have their grace."""
    config = JobConfig(workers=2, heartbeat_s=0.1, kill_grace_s=60.0)
    facts = JobFacts("job-1", "job", config, (ResourceGroup("worker", 2),), "p", "client")
    master = LocalMaster(facts, "join", b"package", tmp_path, no_store)
    client, _, _ = running(master)
    client.say("kill", reason="once")
    client.wait_for("state")
    while not master.job.state.final:
        time.sleep(0.01)
    assert not master.join(0.3)
    master.kill("twice")
    assert master.join(20)
    assert "ended" in client.heard
    assert master.job.error is not None
    assert master.job.error.why == "once"
