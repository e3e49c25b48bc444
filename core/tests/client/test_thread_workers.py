"""A worker as a thread: whatever happens in it the master hears of its end, and nothing of it touches others."""

from __future__ import annotations

import io
import json
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from twister2.client import threads
from twister2.client.lines import LineStream, ThreadLines
from twister2.client.threads import ThreadLink, run_worker
from twister2.control.messages import OUTPUT_WINDOW, Message
from twister2.control.package import Manifest
from twister2.spec.errors import JobKilledError


class FakeMaster:
    """Notes what workers say, and answers ``hello``."""

    def __init__(self, answer: str = "welcome") -> None:
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.deliver: Callable[[Message], None] = lambda message: None
        self._answer = answer

    def register(self, peer: bytes, deliver: Callable[[Message], None], notes: object) -> None:
        self.deliver = deliver

    def send(self, peer: bytes, kind: str, body: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
        self.said.append((kind, body))
        if kind == "hello":
            self.deliver(Message(self._answer, {}))
            if self._answer == "welcome":
                self.deliver(Message("start", {}, (json.dumps(START).encode(),)))

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.said]


NODE = {"host": "h", "addresses": ["10.0.0.1"], "boot_id": "b", "node": "", "rack": "", "datacenter": ""}
START = {
    "job_id": "job-1",
    "job_name": "job",
    "attempt": 1,
    "workers": [{"worker_id": 0, "slot": 0, "node": 0, "cpus": 1.0, "memory_mb": 100}],
    "nodes": [NODE],
    "session": "x",
    "keys": {},
    "checkpoint": 0,
    "state_root": "/nowhere",
    "state_shared": True,
}
TABLES = {"job": {"barrier_deadline_s": 0, "log_level": "info", "result_limit_mb": 1}}


@pytest.fixture(autouse=True)
def temporary(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def manifest() -> Manifest:
    return Manifest(
        program={}, args=(), folder="", want_results=True, python="", core="", resolved={"tables": TABLES}, pins={},
        files={},
    )  # fmt: skip


def run(master: FakeMaster, function: Callable[[Any], Any]) -> None:
    """Run a worker as a thread does."""

    def body() -> None:
        run_worker(0, master, "key", function, manifest(), "job-1")  # type: ignore[arg-type]

    thread = threading.Thread(target=body)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()


def test_one_that_returns() -> None:
    master = FakeMaster()
    run(master, lambda env: env.worker_id)
    assert master.kinds == ["hello", "ended", "bye"]
    assert (master.said[1][1]["returned"], master.said[1][1]["failed"]) == (True, False)


@pytest.mark.parametrize("what", ["stdout", "stderr"])
@pytest.mark.parametrize("kind", ["closed", "none"])
def test_streams_that_the_program_has_closed_do_not_keep_the_end_back(
    monkeypatch: pytest.MonkeyPatch, what: str, kind: str
) -> None:
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr(sys, what, stream if kind == "closed" else None)
    master = FakeMaster()
    run(master, lambda env: None)
    assert master.kinds == ["hello", "ended", "bye"]


@pytest.mark.parametrize("broken", ["runtime_folder", "Start.from_json", "Environment"])
def test_what_fails_before_the_program_runs_is_its_failure(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space left")

    place = {
        "runtime_folder": "twister2.client.threads.runtime_folder",
        "Start.from_json": "twister2.worker.environment.Start.from_json",
        "Environment": "twister2.worker.life.Environment",
    }[broken]
    monkeypatch.setattr(place, fail)
    master = FakeMaster()
    run(master, lambda env: None)
    assert master.kinds == ["hello", "failed", "ended", "bye"]
    assert "no space left" in master.said[1][1]["error"]["what"]
    assert (master.said[2][1]["returned"], master.said[2][1]["failed"]) == (False, True)


def test_an_error_without_a_text_is_told() -> None:
    class Nasty(BaseException):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    def main(env: object) -> None:
        raise Nasty

    master = FakeMaster()
    run(master, main)
    assert master.kinds == ["hello", "failed", "ended", "bye"]
    assert master.said[1][1]["error"]["what"] == "Nasty: its text cannot be told (RuntimeError)"


def test_who_is_refused_or_told_to_end_before_the_start_says_goodbye() -> None:
    for answer in ("refused", "end"):
        master = FakeMaster(answer)
        run(master, lambda env: None)
        assert master.kinds == ["hello", "bye"], answer


def test_results_are_pickled_before_what_they_may_lie_in_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    did: list[str] = []

    def main(env: Any) -> None:
        env.on_close(lambda: did.append("closed"))

    def pickled(result: object, environment: object) -> bytes:
        did.append("pickled")
        return b""

    monkeypatch.setattr("twister2.worker.life.pickled_result", pickled)
    run(FakeMaster(), main)
    assert did == ["pickled", "closed"]


def test_nothing_is_written_into_a_file_that_has_the_number_of_a_closed_one() -> None:
    master = FakeMaster()
    link = ThreadLink(master, 0)  # type: ignore[arg-type]
    descriptor = link.fileno()
    link.close()
    read, write = os.pipe2(os.O_NONBLOCK)
    try:
        assert descriptor in (read, write)
        master.deliver(Message("event", {}))
        master.deliver(Message("end", {}))
        with pytest.raises(BlockingIOError):
            os.read(read, 1)
    finally:
        os.close(read)
        os.close(write)


def test_what_only_counts_is_not_kept_for_a_worker_that_never_looks() -> None:
    master = FakeMaster()
    link = ThreadLink(master, 0)  # type: ignore[arg-type]
    link.post("log", {"level": "info", "text": "x" * OUTPUT_WINDOW, "time": 0.0})
    writer = threading.Thread(target=link.post, args=("log", {"level": "info", "text": "y", "time": 0.0}))
    writer.start()
    writer.join(0.2)
    assert writer.is_alive()  # the window is full
    for _ in range(1000):
        master.deliver(Message("ack", {}))
    master.deliver(Message("taken", {"size": OUTPUT_WINDOW + 512}))
    writer.join(10)
    assert not writer.is_alive()
    assert not select.select([link], [], [], 0)[0]
    assert not link.poll()
    master.deliver(Message("event", {"kind": "lost", "worker_id": 1, "attempt": 1, "text": ""}))
    assert select.select([link], [], [], 0)[0]
    assert [event.worker_id for event in link.take_events()] == [1]
    link.close()


def test_half_a_line_of_a_thread_that_has_ended_is_not_begun_by_another() -> None:
    target = io.StringIO()
    lines = LineStream(target)

    def say(text: str) -> None:
        thread = threading.Thread(target=lines.write, args=(text,))
        thread.start()
        thread.join(10)

    say("half")  # the next thread most often gets the number of the first
    say("whole\n")
    say("end")
    lines.close_lines()
    assert target.getvalue() == "half\nwhole\nend"


def test_two_jobs_at_once_share_the_standard_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    first, second = ThreadLines(), ThreadLines()
    first.begin()
    second.begin()
    ours = sys.stdout
    first.end()
    assert sys.stdout is ours
    assert isinstance(sys.stdout, LineStream)
    assert isinstance(sys.stderr, LineStream)
    second.end()
    second.end()
    assert (sys.stdout, sys.stderr) == streams


def test_inside_a_worker_only_its_thread_is() -> None:
    seen: list[bool] = []
    run(FakeMaster(), lambda env: seen.append(threads.inside_worker_thread()))
    assert seen == [True]
    assert not threads.inside_worker_thread()


def test_an_abort_is_seen_by_who_only_looks_at_the_flag() -> None:
    master = FakeMaster()
    link = ThreadLink(master, 0)  # type: ignore[arg-type]
    assert not link.aborted
    master.deliver(Message("abort", {"error": JobKilledError("the job was killed", why="w", remedy="r").to_dict()}))
    assert link.aborted
    with pytest.raises(JobKilledError):
        link.raise_if_aborted()
    link.close()


@pytest.mark.parametrize("how", ["kill", "failure"])
def test_a_program_that_makes_no_call_of_ours_hears_of_an_abort(how: str) -> None:
    """At once of a kill, after its grace of another worker's failure: a process would be killed then."""
    begun = time.monotonic()
    took: list[float] = []

    def main(env: Any) -> None:
        body: dict[str, Any] = {"error": JobKilledError("x", why="w", remedy="r").to_dict(), "grace_s": 0.5}
        master.deliver(Message("abort", {**body, "interrupt": True} if how == "kill" else body))
        try:
            while True:
                pass
        finally:
            took.append(time.monotonic() - begun)

    master = FakeMaster()
    run(master, main)
    assert master.kinds == ["hello", "failed", "ended", "bye"]
    assert master.said[1][1]["error"]["what"] == "KeyboardInterrupt"
    assert took[0] >= (0.5 if how == "failure" else 0.0)
