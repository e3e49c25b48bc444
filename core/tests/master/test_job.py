"""The state machine of a job, without sockets and processes: who is let in, what ends an attempt, what is refused."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest

from twister2.config import JobConfig
from twister2.control.messages import Message, weight_of
from twister2.control.ticket import Ticket
from twister2.master.calls import CallThread
from twister2.master.clients import Clients
from twister2.master.facts import JobFacts
from twister2.master.job import Job
from twister2.master.journal import Journal
from twister2.master.status import job_status
from twister2.spec.errors import MasterLostError, NetworkError, StateError, StepMismatchError, UserCodeError
from twister2.spec.rm import JobState, JobStatus, ResourceGroup
from twister2.spec.state import StateStore

NODE = {"host": "h", "addresses": ["10.0.0.1"], "boot_id": "b", "node": "", "rack": "", "datacenter": ""}


class World:
    """A job, the messages it posted, and a manager that notes what it is asked for."""

    def __init__(self, folder: Path, n: int = 2, *, expects_client: bool = True, **config: Any) -> None:
        self.posted: list[tuple[bytes, str, dict[str, Any]]] = []
        self.published: list[Ticket] = []
        self.started: list[tuple[int, list[int]]] = []
        self.resized: list[tuple[int, ResourceGroup | None]] = []
        self.stopped: list[list[int]] = []
        self.journal = Journal(folder)
        self.folder = folder
        facts = JobFacts(
            job_id="job-1",
            name="job",
            config=JobConfig(workers=n, **config),
            groups=(ResourceGroup("worker", n),),
            master_public="p",
            client_key="client",
            expects_client=expects_client,
        )
        self.calls = CallThread("the test's store")
        self.job = Job(facts, "key 1", self.post, self, self.journal, self.store, self.calls)
        self.job.package = b"package"

    def store(self) -> StateStore:
        raise StateError("there is no store here", why="a test", remedy="none")

    def post(self, peer: bytes, kind: str, body: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
        told = {"start": json.loads(blobs[0])} if kind == "start" else {}
        self.posted.append((peer, kind, {**body, **told}))

    def publish(self, ticket: Ticket) -> None:
        self.published.append(ticket)

    def start_attempt(self, attempt: int, slots: Sequence[int]) -> None:
        self.started.append((attempt, [*slots]))

    def start_more(self, attempt: int, slots: Sequence[int], refused: Any) -> None:
        self.started.append((attempt, [*slots]))

    def resize(self, n_slots: int, group: ResourceGroup | None, refused: Any) -> None:
        self.resized.append((n_slots, group))

    def resizes(self) -> str:
        return ""

    def stop(self, slots: Sequence[int]) -> None:
        self.stopped.append([*slots])

    def restarts(self, slots: Sequence[int]) -> bool:
        return True

    # -- what peers say ------------------------------------------------------------------------------------------------

    def say(
        self, peer: str, what: str, blobs: tuple[bytes, ...] = (), /, **body: Any
    ) -> list[tuple[str, dict[str, Any]]]:
        """Let a peer say something; what it hears in answer."""
        before = len(self.posted)
        self.job.receive(peer.encode(), Message(what, body, blobs))
        return [(kind, body) for who, kind, body in self.posted[before:] if who == peer.encode()]

    def hello(self, peer: str, slot: Any, key: str = "key 1", attempt: int = 1) -> list[tuple[str, dict[str, Any]]]:
        facts = {"node": NODE, "memory_available_mb": 1000, "key": "curve", "pid": 1}
        return self.say(peer, "hello", slot=slot, join_key=key, attempt=attempt, **facts)

    def join_all(self) -> None:
        for slot in range(self.job.facts.n_workers):
            self.hello(f"w{slot}", slot)
        assert self.job.state is JobState.RUNNING

    def ended(
        self,
        peer: str,
        *,
        code: int = 0,
        returned: bool = True,
        failed: bool = False,
        aborted: bool = False,
        attempt: int = 1,
    ) -> None:
        body = {"code": code, "returned": returned, "failed": failed, "tail": [], "steps": [], "last": []}
        body |= {"attempt": attempt, "aborted": aborted}
        self.say(peer, "ended", (b"result",) if returned else (), **body)

    def heard(self, kind: str) -> list[str]:
        return [peer.decode() for peer, what, _ in self.posted if what == kind]

    def events(self, kind: str) -> list[dict[str, Any]]:
        lines = (self.folder / "events.jsonl").read_text().splitlines()
        return [event for event in map(json.loads, lines) if event["event"] == kind]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.calls.close()
    world.journal.close()


def test_a_job_that_completes(world: World) -> None:
    assert [kind for kind, _ in world.hello("w1", 1)] == ["welcome"]
    assert world.job.state is JobState.STARTING
    world.hello("w0", 0)
    assert sorted(world.heard("start")) == ["w0", "w1"]
    world.ended("w0")
    world.ended("w1")
    assert world.job.state is JobState.COMPLETED
    assert sorted(world.heard("end")) == ["w0", "w1"]
    assert world.job.results == {0: b"result", 1: b"result"}


def test_the_end_that_another_has_written_down_is_the_jobs(world: World) -> None:
    """A client or another shell that gave it up: all who ask are told the same."""
    world.join_all()
    other = Journal(world.folder)
    other.end(JobState.FAILED, NetworkError("the job was given up", why="a test", remedy="none"))
    other.close()
    world.ended("w0")
    world.ended("w1")
    assert (world.job.state, world.job.error and world.job.error.what) == (JobState.FAILED, "the job was given up")
    assert sorted(world.heard("end")) == ["w0", "w1"]
    assert not world.events("job_ended")


def test_a_step_that_one_has_left_out_is_an_error_though_nobody_waited(world: World) -> None:
    world.join_all()
    steps = [[0, 3, False, "net.direct", "[0] to [1]", "p.py:7", 3, 1]]
    body = {"code": 0, "returned": True, "failed": False, "tail": [], "attempt": 1}
    world.say("w0", "ended", (b"",), **body, steps=steps, last=[[0, 3]])
    world.say("w1", "ended", (b"",), **body, steps=[], last=[[0, 2]])
    assert world.job.state is JobState.FAILED
    assert isinstance(world.job.error, StepMismatchError)
    assert world.job.error.what == "worker 1 has returned without a step that worker 0 was in"
    assert "step 3, net.direct [0] to [1] at p.py:7; worker 1 ended after step 2" in world.job.error.why


@pytest.mark.parametrize("first", ["failed", "returned"])
def test_who_cannot_be_reached_because_it_has_returned_is_the_cause(world: World, first: str) -> None:
    """Also in threads mode, where a worker says goodbye as soon as it has ended."""
    world.join_all()
    error = NetworkError("worker 1 cannot be reached any more", why="it has closed its transport", remedy="none")
    for who in ("w0", "w1") if first == "failed" else ("w1", "w0"):
        if who == "w0":
            world.say("w0", "failed", error=error.to_dict(), attempt=1)
        world.ended(who, returned=who == "w1", failed=who == "w0", code=int(who == "w0"))
        world.say(who, "bye")
    assert isinstance(world.job.error, StepMismatchError)
    assert world.job.error.what == "worker 1 has returned while worker 0 waits for it"
    assert "it has closed its transport" in world.job.error.why


def test_who_cannot_be_reached_because_its_supervisor_was_killed_is_lost_not_the_cause_of_a_failure(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, heartbeat_s=0.05, lost_after_s=600.0)
    world.join_all()
    error = NetworkError("worker 1 cannot be reached any more", why="it has closed its transport", remedy="none")
    world.say("w0", "failed", error=error.to_dict(), attempt=1)
    world.ended("w0", returned=False, failed=True, code=1)
    world.job.slots[1].heard -= 300.0
    time.sleep(0.2)  # what it says is believed by now, were nobody silent
    world.say("w0", "beat", steps=[], waits_for="", memory=0, attempt=1)
    world.job.tick()
    assert (world.job.attempt, world.job.error) == (1, None)
    world.job.slots[1].heard -= 300.0
    world.job.tick()
    assert world.job.state is JobState.RESTARTING
    assert [event["worker"] for event in world.events("worker_lost")] == [1]
    world.calls.close()
    world.journal.close()


def test_a_copy_that_will_never_run_is_told_at_once(world: World) -> None:
    world.hello("w0", 0)
    world.job.rm_status(JobStatus(JobState.STARTING, slots={1: "failed: no image of that name"}))
    world.ended("w0", returned=False, failed=True)
    assert world.job.state is JobState.FAILED
    assert world.job.error.what == "worker 1 ended before it could join"
    assert "failed: no image of that name" in world.job.error.why


def test_a_copy_that_is_lost_with_its_host_before_it_joins_is_started_again(world: World) -> None:
    world.hello("w0", 0)
    world.job.rm_status(JobStatus(JobState.STARTING, slots={1: "lost with its node n1"}))
    world.ended("w0", returned=False, failed=True)
    assert (world.job.state, world.started) == (JobState.RESTARTING, [(2, [1])])


@pytest.mark.parametrize("slot", [2, -1, "0", None, 1.5, [0]])
def test_slots_that_do_not_exist_are_refused(world: World, slot: Any) -> None:
    ((kind, body),) = world.hello("x", slot)
    assert (kind, body["wait"]) == ("refused", False)


def test_a_second_copy_for_a_filled_slot_is_refused_and_the_first_goes_on(world: World) -> None:
    world.join_all()
    for key in ("key 1", "another"):
        ((kind, body),) = world.hello("again", 1, key)
        assert (kind, body["wait"]) == ("refused", False)
        assert "already filled" in body["text"]
    assert len(world.events("join_refused")) == 2
    world.ended("w0")
    world.ended("w1")
    assert world.job.state is JobState.COMPLETED


def test_wrong_and_old_keys_wait(world: World) -> None:
    for key, attempt in (("wrong", 1), ("key 1", 2), ("", 1), ("ü", 1)):
        ((kind, body),) = world.hello("x", 0, key, attempt)
        assert (kind, body["wait"]) == ("refused", True)
    assert world.job.state is JobState.QUEUED


def test_who_has_not_joined_is_not_heard(world: World) -> None:
    world.join_all()
    error = UserCodeError("x", why="y", remedy="z").to_dict()
    assert world.say("stranger", "failed", error=error, attempt=1)[0][0] == "refused"
    world.say("stranger", "ended", attempt=1)
    world.say("stranger", "kill", reason="because")
    world.say("stranger", "status")
    world.say("w0", "kill", reason="a worker may not")
    assert world.job.state is JobState.RUNNING
    assert world.say("stranger", "attach", client_key="wrong")[0][0] == "refused"
    assert world.say("stranger", "attach")[0][0] == "refused"
    world.say("stranger", "kill", reason="because")
    assert world.job.state is JobState.RUNNING
    assert world.say("friend", "attach", client_key="client")[0][0] == "attached"
    world.say("friend", "kill", reason="because")
    assert world.job.state is JobState.KILLED


def test_who_has_the_ticket_of_an_attempt_joins_in_a_slot_that_nobody_holds(world: World) -> None:
    """Whatever machine that is, as the guide says: it is a bearer's. One of an attempt before is refused (below)."""
    world.hello("w0", 0)
    assert world.hello("a bearer", 1)[0][0] == "welcome"
    assert world.hello("w1", 1)[0] == ("refused", {"text": "slot 1 is already filled", "wait": False})
    assert world.hello("w0 again", 0)[0][0] == "refused"
    assert world.job.state is JobState.RUNNING


def test_a_lost_worker_is_a_new_attempt_and_the_lost_copy_is_refused_when_it_wakes(world: World) -> None:
    world.join_all()
    world.job.slots[1].heard = time.monotonic() - 100
    world.job.slots[0].heard = time.monotonic()
    world.job.tick()
    assert world.heard("abort") == ["w0"]
    assert world.say("w1", "beat", attempt=1, steps=[], waits_for="", memory=0)[0][0] == "refused"
    world.ended("w0", returned=False, failed=True)
    assert world.job.attempt == 2
    assert world.job.state is JobState.RESTARTING
    assert world.started == [(2, [1])]
    (ticket,) = world.published
    assert (ticket.attempt, ticket.join_key) == (2, world.job.join_key)
    assert ticket.join_key != "key 1"
    assert world.heard("next") == ["w0"]
    # the old copy of slot 1 wakes: by its connection, and by its old key
    assert world.say("w1", "beat", attempt=1, steps=[], waits_for="", memory=0)[0][0] == "refused"
    world.ended("w1")
    assert world.hello("w1 again", 1)[0] == (
        "refused",
        {"text": "the join key is not that of attempt 2", "wait": True},
    )
    assert world.hello("new", 1, ticket.join_key, 2)[0][0] == "welcome"
    assert world.job.state is JobState.RUNNING
    # messages of the first attempt are old
    world.ended("w0", attempt=1)
    assert world.job.slots[0].phase == "joined"
    world.ended("w0", attempt=2)
    world.ended("new", attempt=2)
    assert world.job.state is JobState.COMPLETED


def test_a_late_beat_of_an_ended_worker_does_not_wipe_its_steps(world: World) -> None:
    world.join_all()
    inside = [[0, 1, True, "barrier", "", "p.py:3"]]
    world.say("w0", "beat", attempt=1, steps=inside, waits_for="barrier", memory=0)
    done = {"code": 0, "returned": True, "failed": False, "tail": [], "last": [], "attempt": 1}
    world.say("w1", "ended", steps=[[0, 1, False, "barrier", "", "p.py:3"]], **done)
    world.say("w1", "beat", attempt=1, steps=[], waits_for="", memory=0)
    assert world.job.state is JobState.RUNNING
    assert not world.heard("abort")


def test_the_status_says_who_has_not_entered_the_step_that_others_wait_in(tmp_path: Path) -> None:
    world = World(tmp_path, 4)
    world.join_all()

    def beat(worker: int, group: int, step: int, inside: bool) -> None:
        steps = [[group, step, inside, "allreduce", "sum", "p.py:3", 2, 2]]
        text = f"allreduce, step {step}: for the other members" if inside else ""
        world.say(f"w{worker}", "beat", attempt=1, steps=steps, waits_for=text, memory=0)

    def waits() -> list[str]:
        return [worker["waits_for"] for worker in job_status(world.job)["workers"]]

    for worker, (step, inside) in enumerate([(12, True), (10, False), (12, True), (8, False)]):
        beat(worker, 0, step, inside)
    assert waits() == ["allreduce, step 12: for workers 1, 3", "", "allreduce, step 12: for workers 1, 3", ""]
    beat(1, 0, 12, True)
    assert waits()[:3] == ["allreduce, step 12: for worker 3"] * 3
    beat(3, 0, 12, True)  # all are in it: the boards cannot tell more
    assert waits() == ["allreduce, step 12: for the other members"] * 4
    for worker in range(4):
        beat(worker, 0, 12, False)
    world.say("w2", "group", attempt=1, number=5, members=[2, 3])
    beat(2, 5, 4, True)
    assert waits() == ["", "", "allreduce, step 4: for worker 3", ""]
    world.calls.close()
    world.journal.close()


def test_a_worker_that_waits_for_one_that_has_returned(world: World) -> None:
    world.join_all()
    world.ended("w1")
    world.say("w0", "beat", attempt=1, steps=[[0, 1, True, "barrier", "", "p.py:3"]], waits_for="barrier", memory=0)
    assert world.heard("abort") == ["w0"]
    world.ended("w0", returned=False, failed=True)
    assert world.job.state is JobState.FAILED
    assert world.job.error is not None
    assert "p.py:3" in world.job.error.why


@pytest.mark.parametrize(
    ("code", "again"), [(-9, True), (-15, True), (137, False), (-11, False), (0, False), (3, False)]
)
def test_which_ends_of_a_user_process_are_retried(world: World, code: int, again: bool) -> None:
    world.join_all()
    world.ended("w1", code=code, returned=False)
    world.ended("w0", returned=False, failed=True)
    assert (world.job.attempt == 2) is again
    assert (world.job.state is JobState.RUNNING) is again
    assert world.started == [], "a supervisor that lives was started again"


@pytest.mark.parametrize(("limit_mb", "words"), [(1500, "limit 1,500 MiB"), (0, "asked for 700 MiB")])
def test_out_of_memory_is_told_as_such_and_is_retried(tmp_path: Path, limit_mb: int, words: str) -> None:
    world = World(tmp_path, attempts=1)
    world.join_all()
    world.job.slots[1].resources = ResourceGroup("worker", 2, memory_mb=700)
    end = {"code": -9, "returned": False, "failed": False, "tail": [], "steps": [], "last": [], "attempt": 1}
    world.say("w1", "ended", **end, memory_limit_mb=limit_mb)
    world.ended("w0", returned=False, failed=True)
    error = world.job.error
    assert error is not None
    assert error.what == f"worker 1 was ended by the kernel: out of memory ({words})"
    assert "job.memory_mb" in error.remedy
    assert "1 attempt was made" in error.why
    world.calls.close()
    world.journal.close()


def test_an_attempt_of_which_all_copies_were_killed_is_followed_by_the_next(world: World) -> None:
    world.join_all()
    for slot in world.job.slots:
        slot.heard -= 3
    all_gone = JobStatus(JobState.FAILED, "slot 0 exited 137 (SIGKILL)", dict.fromkeys((0, 1), "exited 137 (SIGKILL)"))
    world.job.rm_status(all_gone)
    assert (world.job.state, world.started) == (JobState.RESTARTING, [(2, [0, 1])])
    world.job.rm_status(JobStatus(JobState.FAILED, "slot 0 exited 1"))
    assert world.job.error.what == "the job ended before its workers had joined"


def test_the_first_cause_wins(world: World) -> None:
    world.join_all()
    for peer in ("w0", "w1"):
        error = UserCodeError(f"error of {peer}", why="y", remedy="z").to_dict()
        world.say(peer, "failed", error=error, attempt=1)
    for peer in ("w0", "w1"):
        world.ended(peer, returned=False, failed=True)
    assert world.job.error is not None
    assert world.job.error.what == "error of w0"
    assert world.job.attempt == 1


@pytest.mark.parametrize("first", ["raised", "crashed"])
@pytest.mark.parametrize(
    ("end", "again"),
    [
        ({"code": -9}, True),
        ({"code": -15}, True),
        ({"code": -9, "aborted": True}, False),  # it still ran when the abort came
        ({"code": -9, "returned": True}, False),
        ({"code": -11}, False),
        ({"code": 1, "failed": True}, False),
    ],
)
def test_a_worker_that_was_killed_explains_what_another_met_before_it_was_known(
    world: World, first: str, end: dict[str, Any], again: bool
) -> None:
    world.join_all()
    if first == "raised":
        error = UserCodeError("a sum is wrong", why="y", remedy="z").to_dict()
        world.say("w0", "failed", error=error, attempt=1)
        world.ended("w0", returned=False, failed=True, code=1)
    else:
        world.ended("w0", returned=False, code=-11)
    world.ended("w1", **{"returned": False, **end})
    assert (world.job.attempt == 2, world.job.state is JobState.RUNNING) == (again, again)
    assert world.started == []


def test_workers_that_gave_up_a_master_that_stood_still_are_not_explained_by_each_other(world: World) -> None:
    world.join_all()
    error = MasterLostError("the job master has been silent", why="y", remedy="z").to_dict()
    world.job.slots[1].heard -= 30
    world.say("w0", "failed", error=error, attempt=1)
    world.ended("w0", returned=False, failed=True, code=1)
    world.job.rm_status(JobStatus(JobState.RUNNING, "", {1: "exited 1"}))
    assert (world.job.attempt, world.job.state) == (1, JobState.FAILED)
    assert world.job.error is not None
    assert world.job.error.what == "the job master has been silent"


def test_the_last_attempts_error_tells_of_both(tmp_path: Path) -> None:
    world = World(tmp_path, attempts=1)
    world.join_all()
    world.say("w0", "failed", error=UserCodeError("a sum is wrong", why="y", remedy="z").to_dict(), attempt=1)
    world.ended("w0", returned=False, failed=True, code=1)
    world.ended("w1", returned=False, code=-9)
    error = world.job.error
    assert error is not None
    assert error.what.startswith("worker 1 ended by itself with signal SIGKILL")
    assert "taken for its consequence: a sum is wrong (y)" in error.why
    world.calls.close()
    world.journal.close()


@pytest.mark.parametrize(("who", "beats"), [("w1", True), ("w1", False), ("w0", False)])
def test_another_supervisor_that_was_silent_before_explains_it_too(world: World, who: str, beats: bool) -> None:
    """One that beats after the abort and goes then was ended with it."""
    world.join_all()
    world.say("w0", "failed", error=UserCodeError("a sum is wrong", why="y", remedy="z").to_dict(), attempt=1)
    if who == "w1":
        world.ended("w0", returned=False, failed=True, code=1)
    else:
        world.ended("w1", returned=False, failed=True, code=1)
    if beats:
        world.say(who, "beat", steps=[], waits_for="", memory=0, attempt=1)
    slot = world.job.slots[int(who[1])]
    slot.heard -= 30
    world.job._aborted_at -= 29 if not beats else 31
    world.job.rm_status(JobStatus(JobState.RUNNING, "", {slot.number: "exited 137"}))
    assert [event["worker"] for event in world.events("worker_lost")] == [slot.number]
    again = who == "w1" and not beats
    assert (world.job.attempt, world.job.state is JobState.FAILED) == ((2, False) if again else (1, True))


def test_what_is_said_of_one_attempt_ends_no_other(tmp_path: Path) -> None:
    world = World(tmp_path, n=4, attempts=3)
    world.hello("w0", 0)
    world.job.slots[0].heard -= 30
    gone = dict.fromkeys(range(4), "lost (its launcher was killed)")
    world.job.rm_status(JobStatus(JobState.FAILED, "its launcher was killed", gone))
    assert (world.job.attempt, world.job.state) == (2, JobState.RESTARTING)
    assert len(world.started) == 1
    world.calls.close()
    world.journal.close()


@pytest.mark.parametrize("how", ["exited 137 (SIGKILL)", "lost (its launcher was killed)"])
def test_copies_that_end_before_they_join(world: World, how: str) -> None:
    world.hello("w0", 0)
    world.job.rm_status(JobStatus(JobState.RUNNING, "", {1: how}))
    world.ended("w0", returned=False, failed=False, code=1)
    assert world.started == [(2, [1])]
    world.job.rm_status(JobStatus(JobState.RUNNING, "", {1: "exited 1"}))
    world.ended("w0", returned=False, failed=False, code=1, attempt=2)
    assert world.job.state is JobState.FAILED
    assert world.job.error is not None
    assert "ended before it could join" in world.job.error.what


def test_a_job_ends_once_though_all_its_copies_have_ended_before_they_joined(world: World) -> None:
    world.job.rm_status(JobStatus(JobState.FAILED, "slot 0 exited 1", dict.fromkeys((0, 1), "exited 1")))
    assert world.job.error is not None
    assert world.job.error.what == "worker 0 ended before it could join"
    assert [event["state"] for event in world.events("job_ended")] == ["failed"]


def test_a_copy_that_still_beats_has_not_ended_whatever_the_manager_says(world: World) -> None:
    world.join_all()
    world.job.rm_status(JobStatus(JobState.RUNNING, "", {1: "exited 0"}))
    assert world.job.slots[1].phase == "joined"
    world.job.slots[1].heard -= 3
    world.job.rm_status(JobStatus(JobState.RUNNING, "", {1: "exited 1"}))
    assert world.job.slots[1].phase == "lost"


def test_workers_that_never_come_have_a_deadline(tmp_path: Path) -> None:
    world = World(tmp_path, start_deadline_s=0.05)
    world.hello("w0", 0)
    time.sleep(0.1)
    world.job.tick()
    assert world.job.state is JobState.FAILED
    assert world.job.error is not None
    assert "missing are: 1" in world.job.error.why
    world.journal.close()


def test_a_barrier_that_is_overdue_names_who_is_missing(world: World) -> None:
    world.join_all()
    world.say("w0", "exchange", attempt=1, kind="barrier", name="b#1", value=None, deadline_s=0.01)
    time.sleep(0.05)
    for _ in range(3):
        world.job.tick()
    assert world.job.state is JobState.RUNNING
    assert len(world.events("abort")) == 1
    for peer in ("w0", "w1"):
        world.ended(peer, returned=False, failed=True)
    assert world.job.error is not None
    assert world.job.error.details["missing"] == [1]


@pytest.mark.parametrize("later", ["of nobody", "of a pair"])
def test_what_comes_after_the_cause_of_an_abort_changes_nothing(world: World, later: str) -> None:
    world.join_all()
    world.say("w0", "failed", error=UserCodeError("a sum is wrong", why="y", remedy="z").to_dict(), attempt=1)
    if later == "of nobody":
        world.job.end_attempt_for(NetworkError("the store has gone", why="y", remedy="z"))
    else:
        world.job.end_attempt_for(StepMismatchError("w", why="y", remedy="z", details={"workers": [0, 1]}))
    for peer in ("w0", "w1"):
        world.ended(peer, returned=False, failed=True)
    assert world.job.error is not None
    assert world.job.error.what == "a sum is wrong"


def test_workers_reach_only_the_checkpoints_of_their_job(world: World) -> None:
    world.join_all()
    for key in ("checkpoints/other/1/x", "jobs/job-1/record", "checkpoints/job-1/../other/x"):
        for kind in ("state_get", "state_put"):
            world.say("w0", "request", (b"data",), attempt=1, request=1, kind=kind, body={"key": key})
            assert world.calls.finish(int, 5.0) is None
            _, answer, body = world.posted[-1]
            assert answer == "reply"
            assert body["error"]["code"].startswith("T2-"), body
            if ".." not in key:
                assert key in body["error"]["what"]


class SlowDisk:
    """Puts when it is let; one key cannot be written."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.did: list[str] = []

    def put(self, key: str, data: bytes) -> None:
        assert self.go.wait(10.0)
        if key.endswith("/full"):
            raise StateError(f"no space for {key}", why="a test", remedy="none")
        self.did.append(f"put {key[-1]}")

    def get(self, key: str) -> bytes:
        self.did.append(f"get {key[-1]}")
        return b"value"

    def delete_all(self, prefix: str) -> None:
        assert self.go.wait(10.0)
        raise StateError(f"cannot remove {prefix}", why="a test", remedy="none")


def test_a_slow_disk_holds_up_neither_beats_nor_output_and_its_errors_reach_who_asked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SlowDisk()
    monkeypatch.setattr(world.job.checkpoints, "_store", lambda: disk)
    world.join_all()
    begun = time.monotonic()

    def ask(peer: str, number: int, kind: str, key: str) -> None:
        body = {"key": f"checkpoints/job-1/00000001/{key}"}
        assert not world.say(peer, "request", (b"data",), attempt=1, request=number, kind=kind, body=body)

    ask("w0", 1, "state_put", "a")
    ask("w1", 1, "state_put", "full")
    ask("w1", 2, "state_get", "b")
    beat = {"attempt": 1, "steps": [], "waits_for": "", "memory": 0}
    assert world.say("w0", "beat", **beat) == [("ack", {})]
    assert world.say("w0", "output", attempt=1, stream="stdout", text="x")[0][0] == "taken"
    world.say("w0", "committed", attempt=1, checkpoint=5)
    assert time.monotonic() - begun < 30.0
    assert not world.heard("reply")
    disk.go.set()
    assert world.calls.finish(int, 60.0) is None
    replies = [(peer.decode(), body) for peer, kind, body in world.posted if kind == "reply"]
    assert [(peer, body["request"], body["attempt"]) for peer, body in replies] == [
        ("w0", 1, 1),
        ("w1", 1, 1),
        ("w1", 2, 1),
    ]
    assert "error" not in replies[0][1]
    assert replies[1][1]["error"]["what"].startswith("no space")
    assert replies[2][1]["found"]
    assert disk.did == ["put a", "get b"]
    assert [event["error"]["what"] for event in world.events("checkpoints_left")] == [
        "cannot remove checkpoints/job-1/00000003/"
    ]


def test_a_disk_that_hangs_at_the_end_is_not_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = SlowDisk()
    monkeypatch.setattr(world.job.checkpoints, "_store", lambda: disk)
    monkeypatch.setattr("twister2.master.checkpoints.REMOVE_S", 0.2)
    world.join_all()
    world.say("w0", "committing", attempt=1)
    begun = time.monotonic()
    world.job.announce_end()
    assert time.monotonic() - begun < 30.0
    (left,) = world.events("checkpoints_left")
    assert "did not answer within 0.2 s" in left["error"]["what"]
    disk.go.set()


def test_groups_that_were_made_long_ago_are_forgotten_unless_somebody_is_in_them(world: World) -> None:
    world.join_all()
    inside = {"attempt": 1, "steps": [[1, 1, True, "reduce", "", "p.py:3"]], "waits_for": "reduce", "memory": 0}
    world.say("w0", "group", attempt=1, number=1, members=[0, 1])
    world.say("w0", "beat", **inside)
    for number in range(2, 15_000):
        world.say("w0", "group", attempt=1, number=number, members=[0, 1])
    assert len(world.job.groups) <= 10_000
    world.ended("w1")
    assert world.heard("abort") == ["w0"]


def test_who_is_not_in_a_group_is_not_missed_by_it(world: World) -> None:
    world.join_all()
    world.ended("w1")
    inside = {"attempt": 1, "steps": [[7, 1, True, "reduce", "", "p.py:3"]], "waits_for": "reduce", "memory": 0}
    world.say("w0", "beat", **inside)
    assert world.job.state is JobState.RUNNING  # who is in group 7 is not known yet
    world.say("w0", "group", attempt=1, number=7, members=[0])
    world.say("w0", "beat", **inside)
    assert not world.heard("abort")


def test_what_cannot_be_written_down_is_told_once(world: World) -> None:
    """A full disk: the job goes on without its logs."""
    world.say("c", "attach", client_key="client", follow=True)
    world.join_all()
    (world.folder / "logs" / "worker-0.log").symlink_to("/dev/full")
    for _ in range(3):
        world.say("w0", "output", attempt=1, stream="stdout", text="x\n")
    texts = [body["text"] for peer, kind, body in world.posted if kind == "output"]
    assert texts.count("x\n") == 3
    (warning,) = [text for text in texts if "not complete" in text]
    assert "No space left" in warning
    assert world.job.state is JobState.RUNNING


def test_a_log_record_moves_no_cursor(world: World) -> None:
    world.say("c", "attach", client_key="client", follow=True)
    world.join_all()
    text = "half\rover it \x1b[2J, a line\r\nand\ta second one"
    world.say("w0", "log", attempt=1, level="INFO", logger="program", text=text, time=0.0)
    (shown,) = [body["text"] for _, kind, body in world.posted if kind == "output"]
    assert shown.endswith("INFO worker 0: half\\x0dover it \\x1b[2J, a line\nand\ta second one\n")
    world.journal.close()
    assert (world.folder / "logs" / "worker-0.log").read_text() == shown


def test_what_is_for_the_log_alone_is_not_shown(world: World) -> None:
    world.say("c", "attach", client_key="client", follow=True)
    world.join_all()
    assert world.say("w0", "output", attempt=1, stream="", text="all of it\n")[0][0] == "taken"
    assert not world.heard("output")
    world.journal.close()
    assert (world.folder / "logs" / "worker-0.log").read_text() == "all of it\n"


def write(world: World, n: int) -> int:
    """Let a worker write n times 1 MB; how many of them it may forget about."""
    before = len(world.heard("taken"))
    for _ in range(n):
        world.say("w0", "output", attempt=1, stream="stdout", text="x" * 10**6)
    return len(world.heard("taken")) - before


def test_a_worker_writes_no_more_than_the_client_takes(world: World) -> None:
    world.say("c", "attach", client_key="client", follow=True)
    world.join_all()
    assert write(world, 12) == 9
    assert len(world.heard("output")) == 12
    world.say("c", "took", size=12 * 10**6)
    assert len(world.heard("taken")) == 12


def test_a_stopped_client_holds_up_no_worker(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.say("c", "attach", client_key="client", follow=True)
    world.join_all()
    assert write(world, 12) == 9
    later = time.monotonic() + 6
    monkeypatch.setattr(time, "monotonic", lambda: later)
    for slot in world.job.slots:
        slot.heard = later
    world.job.tick()
    assert len(world.heard("taken")) == 12
    assert write(world, 5) == 5
    assert len(world.heard("output")) == 12
    world.say("c", "took", size=12 * 10**6)
    assert "about 5,002,560 bytes of output are left out" in world.posted[-1][2]["text"]


def test_output_waits_for_the_client_that_is_on_its_way(world: World) -> None:
    """Workers that are there first do not write into the void."""
    world.join_all()
    assert write(world, 12) == 9
    world.say("c", "attach", client_key="client", follow=True)
    assert len(world.heard("output")) == 12
    assert write(world, 3) == 0
    world.say("c", "took", size=15 * 10**6)
    assert (len(world.heard("taken")), len(world.heard("output"))) == (15, 15)


def test_a_client_that_does_not_come_is_not_waited_for_for_ever(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.join_all()
    assert write(world, 12) == 9
    later = time.monotonic() + 6
    monkeypatch.setattr(time, "monotonic", lambda: later)
    for slot in world.job.slots:
        slot.heard = later
    world.job.tick()
    assert len(world.heard("taken")) == 12
    assert write(world, 5) == 5
    world.say("c", "attach", client_key="client", follow=True)
    assert len(world.heard("output")) == 12
    world.say("c", "took", size=12 * 10**6)
    assert "about 5,002,560 bytes of output are left out" in world.posted[-1][2]["text"]


def test_who_only_asks_gets_no_output_and_holds_up_nobody(tmp_path: Path) -> None:
    world = World(tmp_path, expects_client=False)
    world.say("c", "attach", client_key="client")
    world.join_all()
    assert write(world, 30) == 30
    assert not world.heard("output")
    world.say("d", "attach", client_key="client", follow=True)
    assert 8 <= len(world.heard("output")) <= 9  # what was kept for the first that follows
    world.calls.close()
    world.journal.close()


@pytest.mark.parametrize("expected", [True, False])
def test_what_is_kept_for_a_client_has_an_end_and_is_counted(monkeypatch: pytest.MonkeyPatch, expected: bool) -> None:
    monkeypatch.setattr("twister2.master.clients.BACKLOG", 100)
    posted: list[tuple[str, dict[str, Any]]] = []
    clients = Clients("key", lambda peer, kind, body, blobs=(): posted.append((kind, body)), expected=expected)
    output = {"worker": 0, "stream": "stdout", "text": "x" * 10**6}
    for _ in range(12):
        clients.tell("output", output)
    assert clients.clogged == expected
    for number in range(100):
        clients.tell("checkpoint", {"number": number})
    assert not clients.clogged
    clients.attach(b"c", "key", {}, follow=True)
    assert [body["number"] for kind, body in posted if kind == "checkpoint"] == [*range(100)]
    assert not [body for kind, body in posted if kind == "output"]
    for _ in range(8):
        clients.tell("output", output)
    assert not clients.clogged  # nothing counts that never went to it
    clients.took(b"c", 8 * weight_of("output", output))
    assert "of output are left out" in posted[-1][1]["text"]


def test_groups_of_one_number_end_the_attempt(world: World) -> None:
    world.join_all()
    world.say("w0", "group", attempt=1, number=7, members=[0])
    world.say("w1", "group", attempt=1, number=7, members=[1])
    assert sorted(world.heard("abort")) == ["w0", "w1"]


def test_a_copy_that_says_goodbye_elsewhere_is_lost_for_the_reason_that_its_manager_gives(world: World) -> None:
    world.job.facts = attrs.evolve(world.job.facts, elsewhere=True)
    world.looks = 0
    world.look = lambda: setattr(world, "looks", world.looks + 1)
    world.join_all()
    world.say("w1", "bye", why="")
    assert world.looks == 1
    assert world.events("worker_lost") == []
    world.job.rm_status(JobStatus(JobState.RUNNING, "", {1: "running"}))
    assert world.events("worker_lost") == []
    evicted = "is being ended: Eviction API: evicting (EvictionByEvictionAPI)"
    world.job.rm_status(JobStatus(JobState.RUNNING, "", {0: evicted, 1: evicted}))
    (event,) = world.events("worker_lost")
    assert (event["worker"], event["why"]) == (1, f"its supervisor {evicted}")


def test_a_copy_that_says_why_it_goes_is_lost_at_once(world: World) -> None:
    world.job.facts = attrs.evolve(world.job.facts, elsewhere=True)
    world.join_all()
    world.say("w1", "bye", why="its fork server ended")
    assert world.events("worker_lost")[0]["why"] == "its fork server ended"
