"""Kubernetes, beside as many pods of the same image that exit at once: from their creation until all have succeeded."""

# benchmark: venv=twister2 packages=twister2-rm-k8s
from __future__ import annotations

import os
import time
import uuid
from typing import TYPE_CHECKING

from harness.managers import LIMIT_S, main

if TYPE_CHECKING:
    from twister2_rm_k8s.api import Api

NAMESPACE = os.environ.get("BENCH_K8S_NAMESPACE", "twister2-bench")
IMAGE = os.environ.get("BENCH_K8S_IMAGE", "twister2/worker:1")
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"


def api() -> Api:
    from twister2_rm_k8s.api import Api
    from twister2_rm_k8s.config import KubernetesConfig
    from twister2_rm_k8s.kubeconfig import find_access

    return Api(find_access(KubernetesConfig(namespace=NAMESPACE)), 30.0)


def down() -> str:
    from twister2.spec.errors import Twister2Error
    from twister2_rm_k8s.rbac import apply, manifest

    if not os.environ.get("KUBECONFIG"):
        return "KUBECONFIG is not set"
    try:
        cluster = api()
        if cluster.get(f"/api/v1/namespaces/{NAMESPACE}") is None:
            cluster.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
            apply(cluster, manifest(NAMESPACE))
            time.sleep(2.0)  # its service account is made by a controller
    except Twister2Error as error:
        return f"{error.what}: {error.why}"
    return ""


def bare(workers: int) -> None:
    cluster, mark = api(), f"bare-{uuid.uuid4().hex[:8]}"
    container = {"name": "c", "image": IMAGE, "imagePullPolicy": "Never", "command": ["true"]}
    for number in range(workers):
        metadata = {"name": f"{mark}-{number}", "labels": {"bare": mark}}
        spec = {"restartPolicy": "Never", "containers": [container]}
        cluster.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    end = time.time() + LIMIT_S
    while True:
        phases = [body["status"].get("phase") for body in cluster.items(PODS, labelSelector=f"bare={mark}")]
        if phases.count("Succeeded") == workers:
            break
        if "Failed" in phases or time.time() > end:
            raise RuntimeError(f"the pods are {phases}")
        time.sleep(0.01)
    cluster.delete(PODS, grace_s=0, labelSelector=f"bare={mark}")
    cluster.close()


if __name__ == "__main__":
    image = (
        f"rm.k8s.image={IMAGE}",
        f"rm.k8s.namespace={NAMESPACE}",
        "rm.k8s.image_pull_policy=Never",
        "job.cpus=0.05",
    )
    main("k8s", bare=bare, down=down, options=lambda: image)
