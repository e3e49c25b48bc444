"""States from objects as a real cluster (1.34) had them. No cluster is needed."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from twister2.spec.rm import JobHandle, JobState
from twister2_rm_k8s import names
from twister2_rm_k8s.config import KubernetesConfig
from twister2_rm_k8s.status import Looker

RECORDED = Path(__file__).parent / "recorded"
HANDLE = JobHandle("k8s", "recorded", "0", {"namespace": "demo"})


class Recorded:
    """Answers as the cluster did."""

    def __init__(self, name, events=()):
        self.objects = json.loads((RECORDED / f"{name}.json").read_text())
        self.told = list(events)

    def all(self, kind, handle, *, fresh=False):
        return self.objects[kind]

    def root(self, handle, *, fresh=False):
        found = self.objects["configmaps"]
        return found[0] if found else None

    def events(self, handle, kind, name):
        return [event for event in self.told if event["involvedObject"]["kind"] == kind]

    def forget(self):
        pass

    def look(self, **options):
        return Looker(self, KubernetesConfig(image="i", **options)).state(HANDLE)


@pytest.mark.parametrize(
    ("name", "options", "state", "words"),
    [
        (
            "no-image",
            {},
            JobState.FAILED,
            ("worker 0", "is not on the node", "twister2/nothing:1", "(ErrImageNeverPull)"),
        ),
        ("bad-image-name", {}, JobState.FAILED, ("Not A Name", "(InvalidImageName)")),
        ("unreachable-registry", {"pull_s": 1e12}, JobState.STARTING, ("cannot be pulled", "i/o timeout")),
        ("unreachable-registry", {"pull_s": 5}, JobState.FAILED, ("cannot be pulled", "i/o timeout")),
        ("unschedulable", {}, JobState.QUEUED, ("no node has room", "2 Insufficient cpu", "(Unschedulable)")),
        ("unschedulable", {"unschedulable_s": 5}, JobState.FAILED, ("worker 0", "2 Insufficient cpu")),
        ("exit-codes", {}, JobState.FAILED, ("slot 1 exited 7", "slot 2 exited 14")),
        ("out-of-memory", {}, JobState.FAILED, ("slot 0 exited 137 (out of memory)",)),
        ("running", {}, JobState.RUNNING, ()),
        ("deleted", {}, JobState.RUNNING, ()),
    ],
)
def test_what_a_cluster_says_in_our_words(name, options, state, words):
    status = Recorded(name).look(**options)
    assert status.state is state, status
    assert all(word in status.reason for word in words), status.reason


def test_slots():
    assert Recorded("exit-codes").look().slots == {0: "exited 0", 1: "exited 7", 2: "exited 14"}
    assert Recorded("running").look().slots == {0: "running", 1: "running"}
    deleted = Recorded("deleted").look().slots
    assert sorted(text.split(" ")[0] for text in deleted.values()) == ["exited", "running"]


def test_nothing_there_and_killed():
    gone = Recorded("running")
    gone.objects["configmaps"] = []
    assert gone.look().state is JobState.UNKNOWN
    killed = Recorded("running")
    killed.objects["configmaps"][0]["metadata"]["annotations"][names.KILLED] = "yes"
    assert killed.look().state is JobState.KILLED


@pytest.mark.parametrize(("master", "what"), [(False, "its Jobs were"), (True, "the Job of its job master was")])
def test_jobs_that_somebody_has_deleted(master, what):
    deleted = with_master("Running") if master else Recorded("running")
    root, jobs = deleted.objects["configmaps"][0], deleted.objects["jobs"]
    root["data"]["plan.json"] = json.dumps(json.loads(root["data"]["plan.json"]) | {"master": master})
    assert deleted.look().state is JobState.RUNNING
    del jobs[-1 if master else 0]
    assert (deleted.look().state, deleted.look().reason) == (JobState.FAILED, f"{what} deleted in the cluster")
    root["metadata"]["annotations"][names.ENDED] = "completed"
    assert deleted.look().state is JobState.COMPLETED


def test_slots_whose_job_somebody_has_deleted_are_named():
    deleted = with_master("Running")
    del deleted.objects["jobs"][0]
    status = deleted.look()
    assert status.state is JobState.RUNNING
    assert status.reason == "no Job has slots 0-1 (deleted, or not made yet)"


def test_a_quota_that_is_used_up_is_waited_for():
    why = 'pods "t2-x-0-0-abcde" is forbidden: exceeded quota: small, requested: pods=1, used: pods=5, limited: pods=5'
    event = {"type": "Warning", "reason": "FailedCreate", "message": why, "involvedObject": {"kind": "Job"}}
    waiting = Recorded("running", [event])
    waiting.objects["pods"] = []
    status = waiting.look()
    assert status.state is JobState.QUEUED
    assert "exceeded quota: small" in status.reason
    assert "(FailedCreate)" in status.reason


def refusal(message, stamp):
    """What the cluster says at a time when it makes no pod of a Job."""
    return {
        "type": "Warning",
        "reason": "FailedCreate",
        "message": message,
        "involvedObject": {"kind": "Job"},
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
    }


def without_pods(events, **status):
    """What is said of a job whose Job has no pod, after these events."""
    waiting = Recorded("running", events)
    waiting.objects["pods"] = []
    waiting.objects["jobs"][0]["status"] = status
    return waiting.look()


def never_made(message, *stamps, **status):
    """The same, when the cluster has refused it at these times."""
    return without_pods([refusal(message, stamp) for stamp in stamps], **status)


NO_ACCOUNT = 'pods "t2-x-0-0-" is forbidden: error looking up service account demo/x: serviceaccount "x" not found'
TIMES = ("2026-11-22T02:31:37Z", "2026-11-22T02:31:40Z", "2026-11-22T02:31:52Z")


def test_pods_that_are_refused_again_and_again_are_the_end():
    status = never_made(NO_ACCOUNT, *TIMES)
    assert status.state is JobState.FAILED
    assert status.reason == f"its pods cannot be made: {NO_ACCOUNT} (FailedCreate)"


@pytest.mark.parametrize(
    ("message", "times", "status"),
    [
        (NO_ACCOUNT, TIMES[:2], {}),  # it may have been made a moment later
        (NO_ACCOUNT, TIMES, {"failed": 1}),  # its pod is replaced
        ("exceeded quota: small", TIMES, {}),
        ('failed calling webhook "policy": connection refused', TIMES, {}),
    ],
)
def test_what_may_pass_is_waited_for(message, times, status):
    found = never_made(message, *times, **status)
    assert found.state is JobState.QUEUED
    assert message in found.reason


def test_one_other_word_behind_what_may_pass_is_not_the_end():
    """A job that has waited for its quota for long hears something else once."""
    events = [refusal("exceeded quota: small", stamp) for stamp in TIMES]
    waiting = without_pods([*events, refusal("internal error", "2026-11-22T02:45:00Z")])
    assert waiting.state is JobState.QUEUED
    waiting = without_pods([*events, *(refusal("etcdserver: leader changed", stamp) for stamp in TIMES)])
    assert waiting.state is JobState.QUEUED


def test_a_queue_that_holds_the_job_back():
    held = Recorded("running")
    held.objects["pods"] = []
    for job in held.objects["jobs"]:
        job["spec"]["suspend"] = True
    status = held.look(queue="team-queue")
    assert (status.state, status.reason) == (
        JobState.QUEUED,
        "waits to be admitted by its queue team-queue (Suspended)",
    )


def disrupted(reason, message="told so"):
    changed = Recorded("running")
    status = changed.objects["pods"][0]["status"]
    status["phase"] = "Failed"
    status["containerStatuses"] = []
    status["conditions"].append({"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message})
    slot = int(changed.objects["pods"][0]["metadata"]["annotations"][names.INDEX])
    return changed.look().slots[slot]


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("DeletionByTaintManager", "its node was lost"),
        ("EvictionByEvictionAPI", "evicted"),
        ("PreemptionByScheduler", "preempted by a more important pod"),
        ("SomethingNew", "SomethingNew"),
    ],
)
def test_pods_that_were_taken_away(reason, words):
    assert disrupted(reason) == f"exited 137 ({words}: told so)"


def test_evicted_by_its_node():
    changed = Recorded("running")
    status = changed.objects["pods"][0]["status"]
    status |= {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}
    status["containerStatuses"] = []
    slot = int(changed.objects["pods"][0]["metadata"]["annotations"][names.INDEX])
    assert changed.look().slots[slot] == "exited 137 (evicted: The node was low on resource: memory.)"


def with_master(phase, code=None):
    changed = Recorded("running")
    job, pod = copy.deepcopy(changed.objects["jobs"][0]), copy.deepcopy(changed.objects["pods"][0])
    job["metadata"]["name"] = "t2-x-master"
    for body in (job, pod):
        body["metadata"]["labels"][names.ROLE] = names.MASTER
    pod["metadata"]["labels"]["batch.kubernetes.io/job-name"] = "t2-x-master"
    pod["status"]["phase"] = phase
    if code is not None:
        pod["status"]["containerStatuses"][0]["state"] = {"terminated": {"exitCode": code, "reason": "Error"}}
    changed.objects["jobs"].append(job)
    changed.objects["pods"].append(pod)
    return changed


def test_the_masters_end_is_the_jobs():
    assert with_master("Running").look().state is JobState.RUNNING
    assert with_master("Succeeded", 0).look().state is JobState.COMPLETED
    failed = with_master("Failed", 1).look()
    assert (failed.state, failed.reason) == (JobState.FAILED, "the job master exited 1")


def test_a_master_that_was_started_again_too_often_says_what_ended_it():
    changed = with_master("Running")
    job, pod = changed.objects["jobs"][-1], changed.objects["pods"][-1]
    job["status"] = {"conditions": [{"type": "FailureTarget", "status": "True", "reason": "BackoffLimitExceeded"}]}
    assert changed.look().reason == "the job master ended: (BackoffLimitExceeded)"
    before = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    pod["status"]["containerStatuses"][0]["lastState"] = before
    failed = changed.look()
    assert failed.state is JobState.FAILED
    assert failed.reason == "the job master ended (out of memory): (BackoffLimitExceeded)"


def test_workers_of_a_growing_job_are_pending_not_the_job():
    growing = Recorded("running")
    new = copy.deepcopy(growing.objects["jobs"][0])
    new["metadata"] |= {"name": "t2-x-1"}
    new["metadata"]["labels"][names.START] = "1"
    new["metadata"]["annotations"] |= {names.SLOTS: "2-3", names.GROWN: "yes"}
    growing.objects["jobs"].append(new)
    plan = json.loads(growing.objects["configmaps"][0]["data"]["plan.json"])
    plan["workers"].append(new)
    growing.objects["configmaps"][0]["data"]["plan.json"] = json.dumps(plan)
    status = growing.look()
    assert status.state is JobState.RUNNING
    assert status.pending
    assert set(status.slots) == {0, 1}
