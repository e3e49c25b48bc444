"""The scheduler of a job, with a Mesos that says what the test wants it to say."""

from __future__ import annotations

import contextlib
import json
import queue
import shutil
import threading
import time

import attrs
import pytest

from twister2.spec.errors import ResourceError, SubmissionRefusedError
from twister2_rm_mesos import scheduler as module
from twister2_rm_mesos import slots
from twister2_rm_mesos.config import MesosConfig
from twister2_rm_mesos.folder import Folder
from twister2_rm_mesos.tasks import Plan


class Mesos:
    """One subscription of a scheduler: takes its calls, says events."""

    id = "stream"

    def __init__(self):
        self.calls, self.torn_down = [], []
        self._events = queue.SimpleQueue()
        self._n_offers = 0
        self.crash_at = ""
        self.away = None
        self.hangs_at, self.hangs, self.go_on = "", threading.Event(), threading.Event()

    def subscribe(self, framework, silence_s):
        self.say("SUBSCRIBED", subscribed={"framework_id": {"value": "f-1"}})
        return self

    def __iter__(self):
        while (event := self._events.get()) is not None:
            yield event

    def close(self):
        self._events.put(None)

    def call(self, stream, framework, kind, **parts):
        if kind == self.crash_at:
            raise SystemExit
        if kind == "TEARDOWN" and self.away:
            raise self.away
        if kind == self.hangs_at:
            self.hangs.set()
            self.go_on.wait(20)
        self.calls.append((kind, parts))
        if kind == "TEARDOWN":
            self.torn_down.append(framework)

    def teardown(self, framework):
        if self.away:
            raise self.away
        self.torn_down.append(framework)
        return True

    def get(self, path, base="", **query):
        return {"slaves": []}

    def say(self, kind, **parts):
        self._events.put({"type": kind, **parts})

    def offer(self, mem=16000):
        self._n_offers += 1
        amounts = {"cpus": 16, "mem": mem}
        resources = [{"name": name, "type": "SCALAR", "scalar": {"value": value}} for name, value in amounts.items()]
        offer = {"id": {"value": f"o{self._n_offers}"}, "agent_id": {"value": "a1"}, "resources": resources}
        self.say("OFFERS", offers={"offers": [offer]})

    def update(self, task, state, **more):
        status = {"task_id": {"value": task}, "agent_id": {"value": "a1"}, "state": state, **more}
        self.say("UPDATE", update={"status": status})

    def launched(self):
        return [
            info["task_id"]["value"]
            for kind, parts in [*self.calls]
            if kind == "ACCEPT"
            for info in parts["accept"]["operations"][0]["launch"]["task_infos"]
        ]

    def killed(self):
        return [parts["kill"]["task_id"]["value"] for kind, parts in [*self.calls] if kind == "KILL"]


@pytest.fixture
def folder(tmp_path):
    folder = Folder.of(str(tmp_path), "job-1")
    folder.make()
    slots = ({"cpus": 1.0, "mem": 100.0},) * 2
    plan = Plan("job-1", "job", ("python", "-c", "pass"), {}, slots, attrs.asdict(MesosConfig(linger_s=60)))
    folder.put(folder.plan, plan.to_dict())
    folder.write(folder.ticket, b"{}")
    return folder


@pytest.fixture
def started(folder, monkeypatch):
    """Starts schedulers for the folder, each with a Mesos of its own; those that live are ended."""
    monkeypatch.setattr(slots, "STUCK_S", 0.2)
    threads = []

    def start():
        mesos = Mesos()
        monkeypatch.setattr(module, "Api", lambda config, timeout_s: mesos)
        scheduler = module.Scheduler(folder)

        def run():
            with contextlib.suppress(SystemExit):  # a crash
                scheduler.run()

        thread = threading.Thread(target=run, daemon=True)
        threads.append(thread)
        thread.start()
        return mesos, thread

    yield start
    with contextlib.suppress(ResourceError):  # it was removed
        folder.order(end=0.0)
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def until(what, seconds=60.0):
    end = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < end, f"not true within {seconds:g} s"
        time.sleep(0.01)
    return value


def running(mesos, folder, n=2):
    """Have ``n`` more tasks launched, which then run; their ids."""
    before = mesos.launched()
    mesos.offer()
    tasks = until(lambda: mesos.launched()[len(before) :])
    assert len(tasks) == n
    for task in tasks:
        mesos.update(task, "TASK_RUNNING")
    until(lambda: json.loads(folder.status.read_bytes())["running"] == len(before) + n)
    return tasks


def taken(folder):
    return not [*folder.orders.glob("[0-9]*")]


def slot_of(task):
    return int(task.split(".")[1])


def test_a_slot_is_started_again_though_its_task_cannot_be_ended(started, folder):
    """As when the agent hangs, or is cut off: Mesos says nothing of the old task for a long time."""
    mesos, _ = started()
    _, old = running(mesos, folder)
    folder.order(start=[1])
    until(lambda: taken(folder))
    mesos.offer()
    new = until(lambda: mesos.launched()[2:])
    assert [slot_of(task) for task in new] == [1]
    until(lambda: old in mesos.killed())
    mesos.update(old, "TASK_RUNNING")
    mesos.update(new[0], "TASK_RUNNING")
    status = until(lambda: (told := folder.read(folder.status))["running"] == 2 and told)
    assert status["n"] == 2
    assert status["slots"] == {}
    assert new[0] not in mesos.killed()
    until(lambda: folder.read(folder.status)["leaving"] == 0)  # a job that changes its size would wait for it


def test_slots_that_find_no_agent_say_so(started, folder):
    mesos, _ = started()
    running(mesos, folder)
    folder.order(start=[1])
    until(lambda: taken(folder))
    assert list(folder.read(folder.status)["absent"]) == ["1"]
    mesos.offer(mem=50)
    why = "waits for an agent: a copy asks for 100 MiB of memory (job.memory_mb), the largest offer has 50"
    until(lambda: folder.read(folder.status)["absent"] == {"1": why})
    mesos.offer()
    until(lambda: folder.read(folder.status)["absent"] == {})


def test_a_successor_knows_the_size_that_the_job_has_now(started, folder):
    mesos, thread = started()
    running(mesos, folder)
    folder.order(resize=3, wants={"cpus": 2.0, "mem": 50.0})
    until(lambda: taken(folder))
    (third,) = running(mesos, folder, 1)
    mesos.crash_at = "KILL"
    mesos.update("of-nobody", "TASK_RUNNING")
    thread.join(60)
    assert not thread.is_alive()
    assert not mesos.torn_down
    mesos, _ = started()
    until(lambda: ("RECONCILE", {"reconcile": {"tasks": []}}) in mesos.calls)
    mesos.update(third, "TASK_RUNNING")
    mesos.update("of-nobody", "TASK_RUNNING")
    until(mesos.killed)
    assert mesos.killed() == ["of-nobody"]
    assert folder.read(folder.status)["n"] == 3
    mesos.update(third, "TASK_FAILED", message="Command exited with status 1")
    until(lambda: folder.read(folder.status)["slots"] == {"2": "exited 1"})
    folder.order(start=[2])
    until(lambda: taken(folder))
    mesos.offer()
    until(mesos.launched)
    (accept,) = [parts["accept"] for kind, parts in mesos.calls if kind == "ACCEPT"]
    (info,) = accept["operations"][0]["launch"]["task_infos"]
    assert {each["name"]: each["scalar"]["value"] for each in info["resources"]} == {"cpus": 2.0, "mem": 50.0}


@pytest.mark.parametrize("state", ["TASK_LOST", "TASK_DROPPED"])
def test_a_task_whose_offer_was_gone_is_launched_again(started, folder, state):
    mesos, _ = started()
    mesos.offer()
    first, _ = until(mesos.launched)
    mesos.update(first, state, reason="REASON_INVALID_OFFERS")
    until(lambda: folder.read(folder.status)["wanted"] == 1)
    mesos.offer()
    assert [slot_of(task) for task in until(lambda: mesos.launched()[2:])] == [0]


def test_a_task_that_ran_and_is_lost_is_not_launched_again_by_itself(started, folder):
    mesos, _ = started()
    first, _ = running(mesos, folder)
    mesos.update(first, "TASK_LOST", reason="REASON_AGENT_REMOVED")
    until(lambda: "0" in folder.read(folder.status)["slots"])
    assert folder.read(folder.status)["wanted"] == 0


def test_an_order_counts_as_taken_when_the_status_shows_it(started, folder):
    """Else the old copy's end would be taken for that of the new one, as long as Mesos is slow."""
    mesos, _ = started()
    _, second = running(mesos, folder)
    until(lambda: "SUPPRESS" in [kind for kind, _ in mesos.calls])
    mesos.update(second, "TASK_FAILED", message="Command exited with status 1")
    until(lambda: folder.read(folder.status)["slots"] == {"1": "exited 1"})
    mesos.hangs_at = "REVIVE"
    folder.order(start=[1])
    try:
        assert mesos.hangs.wait(20)
        assert taken(folder)
        assert folder.read(folder.status)["slots"] == {}
    finally:
        mesos.go_on.set()


def test_a_task_that_was_unreachable_and_comes_back_is_killed(started, folder):
    mesos, _ = started()
    first, _ = running(mesos, folder)
    mesos.update(first, "TASK_UNREACHABLE")
    until(lambda: folder.read(folder.status)["slots"].get("0", "").startswith("lost"))
    mesos.update(first, "TASK_RUNNING")
    until(lambda: mesos.killed() == [first])


def test_the_end_does_not_wait_for_tasks_of_an_agent_that_is_gone(started, folder):
    mesos, thread = started()
    running(mesos, folder)
    folder.order(end=0.1)
    thread.join(60)
    assert not thread.is_alive()
    assert mesos.torn_down == ["f-1"]
    assert folder.read(folder.status)["over"]


def test_a_framework_is_taken_back_however_long_mesos_is_away_at_the_end(started, folder, monkeypatch):
    monkeypatch.setattr(module, "CALL_S", 0.1)
    mesos, thread = started()
    mesos.away = ResourceError("Mesos does not answer", why="it is away", remedy="none")
    tasks = running(mesos, folder)
    folder.order(end=0.1)
    for task in tasks:
        mesos.update(task, "TASK_KILLED")
    until(lambda: "it is away" in folder.read(folder.status)["problem"])
    time.sleep(0.3)
    assert not folder.read(folder.status)["over"], "whoever waits would be told that all is well"
    mesos.away = None
    thread.join(60)
    assert not thread.is_alive()
    assert mesos.torn_down == ["f-1"]
    assert folder.read(folder.status)["over"]


def test_a_framework_that_may_not_be_torn_down_is_left_to_mesos(started, folder, monkeypatch):
    monkeypatch.setattr(module, "CALL_S", 0.1)
    mesos, thread = started()
    mesos.away = SubmissionRefusedError("Mesos does not permit this", why="HTTP 403", remedy="none")
    running(mesos, folder)
    folder.order(end=0.1)
    thread.join(60)
    assert not thread.is_alive()
    assert mesos.torn_down == []
    assert "does not permit" in folder.read(folder.status)["problem"]


def test_a_job_whose_folder_is_removed_under_it_leaves_nothing_in_mesos(started, folder, monkeypatch):
    mesos, thread = started()
    first, _ = running(mesos, folder)
    put = Folder.put

    def removed_meanwhile(self, path, value):
        shutil.rmtree(self.root, ignore_errors=True)
        put(self, path, value)

    monkeypatch.setattr(Folder, "put", removed_meanwhile)
    mesos.update(first, "TASK_FAILED", message="Command exited with status 1")
    thread.join(60)
    assert not thread.is_alive()
    assert mesos.torn_down == ["f-1"]
