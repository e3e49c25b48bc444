"""The state machine of a job whose master was started again: what it takes up, whom it takes back, where it begins."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from twister2.control.package import digest
from twister2.master.returning import Note, Returning
from twister2.spec.errors import JobFailedError, UserCodeError
from twister2.spec.rm import JobState, JobStatus, ResourceGroup
from twister2.spec.state import StateStore

SPEC = importlib.util.spec_from_file_location("kit_test_job_of_returning", Path(__file__).with_name("test_job.py"))
assert SPEC is not None
assert SPEC.loader is not None
TEST_JOB = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(TEST_JOB)


class Memory(StateStore):
    shared = True

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put(self, key, data):
        self.objects[key] = data

    def put_if_absent(self, key, data):
        return self.objects.setdefault(key, data) is data

    def get(self, key):
        return self.objects.get(key)

    def list(self, prefix):
        yield from sorted(key for key in self.objects if key.startswith(prefix))

    def delete(self, key):
        self.objects.pop(key, None)


class World(TEST_JOB.World):
    def __init__(self, folder: Path, store: StateStore, n: int = 2, **config: Any) -> None:
        super().__init__(folder, n, **config)
        self.kept = store
        self.job.facts = attrs.evolve(self.job.facts, returns=True, package=digest(b"package"))

    def store(self):
        return self.kept

    def deliver(self, until=lambda: False) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end and not until():
            self.calls.deliver()
            time.sleep(0.005)
        assert until()


@pytest.fixture
def store() -> Memory:
    return Memory()


@pytest.fixture
def lives(tmp_path: Path, store: Memory) -> Iterator[Any]:
    """Makes the lives of one job's master; the earlier ones just stop."""
    made = []

    def live(note: bytes | None = None, n: int = 2, **config: Any) -> World:
        folder = tmp_path / f"life{len(made)}"
        folder.mkdir()
        made.append(World(folder, store, n, **config))
        made[-1].goes_on = made[-1].job.returning.begin(note)
        return made[-1]

    yield live
    for world in made:
        world.calls.close()
        world.journal.close()


def note_of(world: World) -> bytes:
    return world.job.returning.note().encode()


def committed(store: Memory, number: int, worker: bool = False) -> None:
    store.put(f"checkpoints/job-1/{number:08d}/replicated", b"x")
    store.put(f"checkpoints/job-1/{number:08d}/manifest", json.dumps({"worker": worker}).encode())


def test_the_first_life_begins_as_ever(lives):
    world = lives()
    assert world.goes_on
    assert (world.job.attempt, world.job.ticket().master) == (1, 1)
    world.join_all()
    assert world.started == []


def test_workers_are_taken_back_into_a_new_attempt_from_the_latest_commit(lives, store):
    first = lives()
    first.join_all()
    first.say("w0", "committed", attempt=1, checkpoint=1)
    committed(store, 1)
    committed(store, 2, worker=True)  # of which the first life has not heard
    store.put("checkpoints/job-1/00000003/replicated", b"no manifest: not a commit")
    second = lives(note_of(first))
    job = second.job
    assert (job.attempt, job.lives, job.state) == (2, 1, JobState.RESTARTING)
    assert "started again" in job.reason
    ticket = job.ticket()
    assert (ticket.master, ticket.attempt) == (2, 2)
    assert ticket.join_key != "key 1"
    key = ticket.join_key
    assert second.hello("w0", 0, key, 2)[0][0] == "welcome"
    assert second.hello("w1", 1, key, 2)[0][0] == "welcome"
    assert job.state is JobState.RESTARTING, "the attempt has begun before it was known where"
    second.deliver(lambda: job.state is JobState.RUNNING)
    assert job.checkpoints.latest == 2
    assert job.checkpoints.per_worker
    starts = [body["start"] for _, kind, body in second.posted if kind == "start"]
    assert [start["checkpoint"] for start in starts] == [2, 2]
    assert second.started == []
    second.ended("w0", attempt=2)
    second.ended("w1", attempt=2)
    assert job.state is JobState.COMPLETED


def test_copies_of_the_life_before_are_told_to_look_for_the_ticket(lives):
    second = lives(note_of(lives()))
    ((kind, body),) = second.say("w0", "beat", attempt=1, steps=[], waits_for="", memory=0)
    assert (kind, body["wait"]) == ("refused", True)
    ((kind, body),) = second.hello("w0", 0, "key 1", 1)
    assert (kind, body["wait"]) == ("refused", True)


def test_what_has_ended_meanwhile_is_started_again_and_the_others_are_waited_for(lives):
    second = lives(note_of(lives(n=3)), n=3)
    job = second.job
    key = job.join_key
    second.hello("w0", 0, key, 2)
    job.rm_status(JobStatus(JobState.RUNNING, "", {1: "exited 1"}))
    job.tick()
    assert second.started == [(2, [1])], "slot 2 may still come"
    job.rm_status(JobStatus(JobState.RUNNING, "", {1: "running"}))
    second.hello("w1", 1, key, 2)
    second.hello("w2", 2, key, 2)
    second.deliver(lambda: job.state is JobState.RUNNING)
    assert second.started == [(2, [1])]


def test_what_does_not_come_within_the_deadline_is_started_again(lives):
    second = lives(note_of(lives()), master_return_s=0.05)
    job = second.job
    second.hello("w0", 0, job.join_key, 2)
    time.sleep(0.1)
    job.tick()
    job.tick()
    assert second.started == [(2, [1])]


def test_a_death_of_the_master_is_no_life_of_the_program_but_those_of_workers_count_on(lives):
    first = lives(attempts=2)
    first.join_all()
    first.say("w1", "bye", why="killed")
    first.ended("w0", returned=False, failed=True)
    assert (first.job.attempt, first.job.lives) == (2, 2)
    second = lives(note_of(first), attempts=2)
    assert (second.job.attempt, second.job.lives) == (3, 2)


def test_the_size_of_the_job_is_that_of_its_latest_attempt(lives):
    first = lives()
    first.join_all()
    places = [(0, ResourceGroup("worker", 2)), (3, ResourceGroup("worker", 2))]
    for slot, (place, _) in zip(first.job.slots, places, strict=True):
        slot.place = place
    first.job.scaling.places = 6  # two slots more were asked for, and are not used yet
    second = lives(note_of(first))
    assert [slot.place for slot in second.job.slots] == [0, 3]
    assert [slot.number for slot in second.job.slots] == [0, 1]
    second.job.returning.published()
    assert second.resized == [(4, None)], "what was asked for and is not used is not given back"
    assert second.hello("w5", 5, second.job.join_key, 2)[0][0] == "refused"
    assert second.hello("w3", 3, second.job.join_key, 2)[0][0] == "welcome"


def test_a_job_that_had_ended_is_not_begun_again(lives):
    first = lives()
    first.job.fail(UserCodeError("bad luck", why="a test", remedy="none"))
    assert [kind for _, kind, _ in first.posted if kind == "end"] == []
    second = lives(note_of(first))
    assert not second.goes_on
    assert second.job.returning.was_over
    assert second.job.state is JobState.FAILED
    assert isinstance(second.job.error, UserCodeError)
    assert second.hello("w0", 0)[0] == ("refused", {"text": "the job is over", "wait": False})
    second.job.package = b""
    assert second.hello("w1", 1)[0] == ("refused", {"text": "the job is over", "wait": False}), "it waits for a package"


def test_workers_go_when_the_manager_knows_of_the_end(lives):
    world = lives()
    world.join_all()
    world.job.kill("a test")
    assert not [kind for _, kind, _ in world.posted if kind == "end"]
    world.job.dismiss()
    assert [peer for peer, kind, _ in world.posted if kind == "end"] == [b"w0", b"w1"]


def test_a_package_that_is_gone_comes_from_a_worker_that_has_it(lives):
    second = lives(note_of(lives()))
    job = second.job
    job.package = b""
    facts = {"node": TEST_JOB.NODE, "memory_available_mb": 1000, "key": "curve", "pid": 1, "package": job.facts.package}
    for number in range(2):
        second.say(f"w{number}", "hello", slot=number, join_key=job.join_key, attempt=2, **facts)
    assert second.heard("give") == ["w0"]
    second.say("w1", "given", (b"package",))  # nobody has asked it
    assert not job.package
    second.say("w0", "given", (b"changed",))
    assert second.heard("give") == ["w0", "w1"]
    second.say("w1", "given", (b"package",))
    assert job.package == b"package"
    assert second.heard("welcome") == ["w0", "w1"]


def test_without_a_package_the_job_fails_with_that_reason(lives):
    second = lives(note_of(lives()), master_return_s=0.05)
    second.job.package = b""
    second.hello("w0", 0, second.job.join_key, 2)
    time.sleep(0.1)
    second.job.tick()
    assert second.job.state is JobState.FAILED
    assert "no package" in str(second.job.error)


def test_without_a_package_it_fails_so_where_all_workers_have_ended_too(lives):
    """Copies that are started again cannot bring it, and a detached job's client does not."""
    second = lives(note_of(lives()), master_return_s=60.0)
    job = second.job
    job.package, job.facts = b"", attrs.evolve(job.facts, expects_client=False)
    job.rm_status(JobStatus(JobState.RUNNING, "", {0: "exited 1", 1: "exited 1"}))
    job.tick()
    assert second.started == [(2, [0, 1])]
    second.hello("w0", 0, job.join_key, 2)
    job.returning.tick(time.monotonic() + 61.0)
    assert job.state is JobState.FAILED
    assert "no package" in str(job.error)


def test_commits_that_went_with_the_master_are_missed_in_words(lives):
    first = lives()
    first.join_all()
    first.say("w0", "committed", attempt=1, checkpoint=4)
    second = lives(note_of(first))
    second.say("client", "attach", client_key="client", follow=True)
    second.hello("w0", 0, second.job.join_key, 2)
    second.hello("w1", 1, second.job.join_key, 2)
    second.deliver(lambda: second.job.state is JobState.RUNNING)
    said = [body["text"] for _, kind, body in second.posted if kind == "output"]
    assert any("commit 4" in text and "from the start" in text for text in said), said


def test_a_store_that_cannot_be_read_is_the_end_not_a_beginning(lives, store, monkeypatch):
    from twister2.spec.errors import StateError

    def broken(prefix):
        raise StateError("the disk is gone", why="a test", remedy="none")

    second = lives(note_of(lives()))
    monkeypatch.setattr(store, "list", broken)
    second.hello("w0", 0, second.job.join_key, 2)
    second.hello("w1", 1, second.job.join_key, 2)
    second.deliver(lambda: second.job.state.final)
    assert "the disk is gone" in str(second.job.error)


def test_a_note_that_nobody_can_read_says_so(lives):
    for text in (b"", b"{}", b'{"master": 1}', b"[1]"):
        with pytest.raises(JobFailedError, match="cannot read"):
            Note.decode(text)
    world = lives()
    wrong = attrs.evolve(world.job.returning.note(), slots=[(0, 2, "gone")])
    with pytest.raises(JobFailedError, match="gone"):
        Returning(world.job).begin(wrong.encode())


def test_a_note_stays_small(lives):
    world = lives(n=3000)
    world.job.fail(UserCodeError("x" * 100, why="y" * 200_000, remedy="z", details={"traceback": "t" * 100_000}))
    assert len(note_of(world)) < 32 << 10
    assert lives(note_of(world), n=3000).job.error.what == "x" * 100
