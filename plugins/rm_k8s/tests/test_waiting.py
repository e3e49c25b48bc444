"""Pods that wait, are refused, or are somebody else's, by the backend alone on a real Kubernetes."""

from __future__ import annotations

import datetime
import os
import time
import uuid

import pytest

from twister2.spec.errors import ResourceError, SubmissionRefusedError
from twister2.spec.rm import Allocation, JobState, ResourceGroup, RmContext
from twister2_rm_k8s import manifests, rbac
from twister2_rm_k8s.api import Api
from twister2_rm_k8s.doctor import checks
from twister2_rm_k8s.kubeconfig import find_access
from twister2_rm_k8s.manager import KubernetesManager
from twister2_rm_k8s.rbac import RIGHTS
from twister2_testkit.managed import ManagedJobs

pytestmark = [pytest.mark.needs_k8s, pytest.mark.timeout(240)]


def allocation(tmp_path, **changes):
    job_id = f"waits-{uuid.uuid4().hex[:12]}"
    values = {
        "job_id": job_id,
        "name": "waits",
        "groups": (ResourceGroup("worker", 1, cpus=0.05),),
        "worker_command": ("sleep", "600"),
        "master_command": ("sleep", "600"),
        "environment": {},
        "ticket": b"{}",
        "master_ticket": b"{}",
        "folder": str(tmp_path / job_id),
    }
    return Allocation(**{**values, **changes})


@pytest.fixture
def backend(tmp_path, kubernetes):
    """Makes backends; ends what was submitted."""
    made = []

    class Backend(KubernetesManager):
        def submit(self, wanted):
            handle = super().submit(wanted)
            made.append((self, handle))
            return handle

    yield lambda **options: Backend(kubernetes.config(**options), RmContext(str(tmp_path), 30.0))
    for rm, handle in made:
        rm.kill(handle, 0.0)
        assert rm.clean(handle) == []
        rm.close()


@pytest.fixture
def seats(kubernetes):
    """A kind of resource that no other test asks for, of which no node has any: its name, and a function that gives a
    node some.
    """
    node = kubernetes.api.items("/api/v1/nodes")[0]["metadata"]["name"]
    name = f"twister2.org/seats-{uuid.uuid4().hex[:8]}"

    def give(count):
        body = {"status": {"capacity": {name: count}, "allocatable": {name: count}}}
        assert kubernetes.api.patch(f"/api/v1/nodes/{node}/status", body)

    yield name, give
    give(None)


def seated(tmp_path, **changes):
    return allocation(tmp_path, groups=(ResourceGroup("worker", 1, cpus=0.05, gpus=1),), **changes)


def state_when(kubernetes, rm, handle, true):
    return kubernetes.until(lambda: (found := rm.state(handle)) and true(found) and found)


def age_s(body):
    made = datetime.datetime.fromisoformat(body["metadata"]["creationTimestamp"].replace("Z", "+00:00"))
    return time.time() - made.timestamp()


def test_waiting_for_a_node_is_no_part_of_the_walltime(backend, kubernetes, seats, tmp_path, monkeypatch):
    name, give = seats
    monkeypatch.setattr(manifests, "SLACK_S", 2)
    rm = backend(gpu_resource=name)
    handle = rm.submit(seated(tmp_path, walltime_s=1))
    (job,) = kubernetes.items("jobs", labelSelector=f"twister2.org/job={handle.job_id}")
    kubernetes.until(lambda: age_s(job) > 8)
    status = state_when(kubernetes, rm, handle, lambda found: found.reason)
    assert status.state is JobState.QUEUED
    assert "no node has room" in status.reason
    give("1")
    ended = state_when(kubernetes, rm, handle, lambda found: found.state.final)
    assert ended.state is JobState.FAILED
    assert "it reached its deadline" in ended.reason


def test_a_job_that_finds_the_cluster_full_waits_for_the_others(backend, kubernetes, seats, tmp_path):
    """Each of the two has room, both have not."""
    name, give = seats
    give("1")
    rm = backend(gpu_resource=name)
    first = rm.submit(seated(tmp_path))
    state_when(kubernetes, rm, first, lambda found: found.state is JobState.RUNNING)
    second = rm.submit(seated(tmp_path))
    status = state_when(kubernetes, rm, second, lambda found: found.reason)
    assert status.state is JobState.QUEUED
    assert f"Insufficient {name}" in status.reason
    rm.kill(first, 0.0)
    state_when(kubernetes, rm, second, lambda found: found.state is JobState.RUNNING)


MASTER = ResourceGroup("master", 1)
NOBODY = os.path.join(os.environ.get("TWISTER2_K8S_HOME", ""), "cp", "nobody.kubeconfig")


def test_a_service_account_that_is_not_there_is_refused(backend, kubernetes, tmp_path):
    wanted = allocation(tmp_path, master=MASTER)
    with pytest.raises(SubmissionRefusedError, match="no service account 'absent'") as caught:
        backend(service_account="absent").submit(wanted)
    assert f"twister2_rm_k8s.rbac {kubernetes.name} --account absent --apply" in caught.value.remedy
    assert backend().find(wanted.job_id) is None


def test_a_service_account_without_its_role_is_refused_until_it_has_it(backend, kubernetes, tmp_path):
    account = {"service_account": "bare"}
    kubernetes.api.create(kubernetes.path("serviceaccounts"), {"metadata": {"name": "bare"}})

    def looked():
        return next(it for it in checks(kubernetes.config(**account), 30.0) if it.name == "service account")

    wanted = allocation(tmp_path, master=MASTER)
    with pytest.raises(SubmissionRefusedError, match="'bare' of the job master has too few rights") as caught:
        backend(**account).submit(wanted)
    assert "to list configmaps, patch secrets is forbidden to it" in caught.value.why
    assert backend().find(wanted.job_id) is None
    assert looked().result == "failed"
    for error in (caught.value, looked()):
        assert f"twister2_rm_k8s.rbac {kubernetes.name} --account bare --apply" in error.remedy
    rbac.apply(kubernetes.api, rbac.manifest(kubernetes.name, "bare"))
    backend(**account).submit(wanted)
    kubernetes.until(lambda: looked().result == "ok")


def test_who_may_not_ask_for_the_rights_of_an_account_is_not_refused_for_that(kubernetes):
    api = Api(find_access(kubernetes.config(kubeconfig=NOBODY)), 30.0)
    assert rbac.lacking(api, kubernetes.name, "twister2", RIGHTS) is None
    api.close()


def test_pods_that_are_never_made_end_the_job_with_the_reason(backend, kubernetes, tmp_path, monkeypatch):
    """As for those who may not see service accounts."""
    monkeypatch.setattr(rbac, "check_accounts", lambda *_: None)
    rm = backend(service_account="absent")
    handle = rm.submit(allocation(tmp_path, master=MASTER))
    ended = state_when(kubernetes, rm, handle, lambda found: found.state.final)
    assert ended.state is JobState.FAILED
    assert 'serviceaccount "absent" not found' in ended.reason
    assert "(FailedCreate)" in ended.reason


def test_somebody_elses_job_stays(backend, kubernetes, tmp_path):
    rm = backend()
    handle = rm.submit(allocation(tmp_path))
    state_when(kubernetes, rm, handle, lambda found: found.state is JobState.RUNNING)
    other = backend(kubeconfig=NOBODY)
    for act in (lambda: other.find(handle.job_id), lambda: other.kill(handle, 0.0), lambda: other.clean(handle)):
        with pytest.raises(ResourceError, match="is forbidden: User") as caught:
            act()
        assert "twister2_rm_k8s.rbac" in caught.value.remedy
    other.close()
    assert rm.state(handle).state is JobState.RUNNING


def test_the_same_job_twice_is_refused_and_the_first_stays(backend, tmp_path):
    rm, wanted = backend(), allocation(tmp_path)
    handle = rm.submit(wanted)
    with pytest.raises(SubmissionRefusedError, match="already exists"):
        backend().submit(wanted)
    assert rm.find(wanted.job_id) == handle
    assert not rm.state(handle).state.final


def test_the_doctor_names_every_right_that_is_missing(kubernetes):
    found = {check.name: check for check in checks(kubernetes.config(kubeconfig=NOBODY), 30.0)}
    assert found["rights"].result == "failed"
    for verb, _, resource in RIGHTS:
        assert any(words.endswith(f" {resource}") and verb in words for words in found["rights"].finding.split(", "))
    assert {check.name: check.result for check in checks(kubernetes.config(), 30.0)}["rights"] == "ok"


def test_a_whole_job_waits_for_its_workers_nodes_longer_than_a_start_may_take(kubernetes, seats, tmp_path):
    """Its master has a node meanwhile."""
    name, give = seats
    options = [
        f"rm.k8s.namespace={kubernetes.name}",
        f"rm.k8s.gpu_resource={name}",
        "rm.k8s.image=twister2/worker:1",
        "rm.k8s.image_pull_policy=Never",
        "job.gpus=1",
        "job.cpus=0.05",
        "job.start_deadline_s=15",
    ]
    with ManagedJobs(tmp_path, "k8s") as twister2:
        words = [word for option in options for word in ("-o", option)]
        client = twister2("submit", "k8s", "-n", 2, *words, "program.py")

        def told():
            found = [" ".join(twister2.run("status", job)[1].split()) for job in twister2.jobs()]
            return any("2 of 2 workers wait: no node has room" in text for text in found) or client.poll() is not None

        kubernetes.until(told)
        time.sleep(17)
        assert client.poll() is None, twister2.finish(client)
        give("2")
        code, out, err = twister2.finish(client)
    assert code == 0, err
    assert out.count("hello from") == 2


@pytest.mark.parametrize("master", ["allocation", "client"])
def test_a_queued_job_whose_jobs_somebody_deletes_ends_and_says_so(kubernetes, tmp_path, master):
    options = [
        f"rm.k8s.namespace={kubernetes.name}",
        "rm.k8s.gpu_resource=twister2.org/that-no-node-has",
        "rm.k8s.image=twister2/worker:1",
        "rm.k8s.image_pull_policy=Never",
        "job.gpus=1",
        "job.cpus=0.05",
        f"job.master={master}",
    ]
    with ManagedJobs(tmp_path, "k8s") as twister2:
        words = [word for option in options for word in ("-o", option)]
        client = twister2("submit", "k8s", "-n", 2, *words, "program.py")

        def waits():
            found = [twister2.run("status", job)[1] for job in twister2.jobs()]
            return any("no node has room" in " ".join(text.split()) for text in found) or client.poll() is not None

        kubernetes.until(waits)
        kubernetes.api.delete(kubernetes.path("jobs"), labelSelector=f"twister2.org/job={twister2.job()}")
        code, _, err = twister2.finish(client)
        assert code == 1, err
        assert "deleted in the cluster" in err, err
        status = " ".join(twister2.run("status", twister2.job())[1].split())
        assert "failed" in status.lower(), status
        assert "deleted in the cluster" in status, status
    assert not kubernetes.left()
