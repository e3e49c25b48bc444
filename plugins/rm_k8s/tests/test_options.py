"""Options of the job master's pod, and of devices."""

from __future__ import annotations

import pytest

from twister2.spec.rm import Allocation, ResourceGroup
from twister2_rm_k8s.config import KubernetesConfig
from twister2_rm_k8s.manifests import Manifests


def jobs(**options):
    """The Jobs of a job of one worker with a GPU: by role, of the objects that its options make."""
    allocation = Allocation(
        "job-1", "job", (ResourceGroup("worker", 1, gpus=2),), ("worker",), ("master",), {}, b"t", b"m", "/nowhere",
        master=ResourceGroup("master", 1),
    )  # fmt: skip
    made = Manifests(allocation, KubernetesConfig(image="i", **options), "team").all()
    found = [body for body in made if body["kind"] == "Job"]
    return {body["spec"]["template"]["spec"]["containers"][0]["name"]: body["spec"] for body in found}


def pods(**options):
    return {role: spec["template"]["spec"] for role, spec in jobs(**options).items()}


def test_the_masters_pod_has_its_own_size_and_account():
    master = pods(service_account="runner", master_cpus=0.75, master_memory_mb=333)["master"]
    assert master["serviceAccountName"] == "runner"
    resources = master["containers"][0]["resources"]
    assert resources["requests"] == {**resources["requests"], "cpu": "750m", "memory": "333Mi"}
    assert resources["limits"]["memory"] == "333Mi"


@pytest.mark.parametrize("name", ["nvidia.com/gpu", "amd.com/gpu"])
def test_what_a_gpu_is_called(name):
    found = pods(gpu_resource=name)
    (worker,) = (pod for role, pod in found.items() if role != "master")
    assert worker["containers"][0]["resources"]["limits"][name] == "2"
    assert name not in str(found["master"])


def test_kubernetes_deletes_an_ended_job_when_it_is_told_after_what_time():
    assert all("ttlSecondsAfterFinished" not in spec for spec in jobs().values())
    kept = {role: spec.get("ttlSecondsAfterFinished") for role, spec in jobs(keep_s=1.5).items()}
    assert kept == {"master": 2, "worker": None}
