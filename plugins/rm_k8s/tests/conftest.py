"""A namespace of the tests' own in a real cluster."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import uuid
from pathlib import Path

import pytest

from twister2_rm_k8s.api import Api
from twister2_rm_k8s.config import KubernetesConfig
from twister2_rm_k8s.kubeconfig import find_access
from twister2_rm_k8s.rbac import apply, manifest

IMAGE = "twister2/worker:1"


class Namespace:
    """What tests ask the cluster as its administrator."""

    def __init__(self) -> None:
        self.name = f"t2-test-{uuid.uuid4().hex[:8]}"
        self.api = Api(find_access(KubernetesConfig(namespace=self.name)), 30.0)
        self.api.create("/api/v1/namespaces", {"metadata": {"name": self.name}})
        apply(self.api, manifest(self.name))
        # Files that pods leave for a test: anybody may write there, and the folder has the same path in the pods.
        self.shared = Path(tempfile.mkdtemp(prefix="t2-k8s-", dir="/var/tmp"))
        self.shared.chmod(0o777)

    def path(self, kind, name=""):
        api = "/apis/batch/v1" if kind == "jobs" else "/api/v1"
        return f"{api}/namespaces/{self.name}/{kind}" + (f"/{name}" if name else "")

    def items(self, kind, **query):
        return self.api.items(self.path(kind), **query)

    def names(self, kind, **query):
        return [body["metadata"]["name"] for body in self.items(kind, **query)]

    def left(self):
        """Everything that jobs have here."""
        ours = {"labelSelector": "app.kubernetes.io/managed-by=twister2"}
        kinds = ("jobs", "pods", "secrets", "services", "configmaps")
        return [f"{kind}/{name}" for kind in kinds for name in self.names(kind, **ours)]

    def until(self, what, seconds=90.0):
        end = time.monotonic() + seconds
        while not (value := what()):
            assert time.monotonic() < end, f"not true within {seconds:g} s; there are {self.left()}"
            time.sleep(0.1)
        return value

    def config(self, **options):
        return KubernetesConfig(
            **{"image": IMAGE, "image_pull_policy": "Never", "namespace": self.name, "pod_template": "", **options}
        )

    def remove(self) -> None:
        self.api.delete(f"/api/v1/namespaces/{self.name}")
        self.api.close()
        shutil.rmtree(self.shared, ignore_errors=True)


@pytest.fixture(scope="session")
def kubernetes():
    """A namespace with the rights that jobs need; asked for by tests that need a cluster only."""
    namespace = Namespace()
    yield namespace
    namespace.remove()


@pytest.fixture(scope="session")
def python_of_image():
    return os.environ.get("TWISTER2_K8S_IMAGE_PYTHON", "/usr/local/bin/python3")
