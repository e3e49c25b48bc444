"""A namespace of the tests' own in a real Kubernetes."""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path

import pytest

K8S = Path(__file__).parent / "k8s.sh"


def kubectl(*arguments):
    done = subprocess.run([K8S, "kubectl", *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Namespace:
    """What jobs need there is made; the options name it, and the image of the tests."""

    def __init__(self):
        self.name = f"t2-test-{uuid.uuid4().hex[:8]}"
        self.options = [
            f"rm.k8s.namespace={self.name}",
            "rm.k8s.image=twister2/worker:1",
            "rm.k8s.image_pull_policy=Never",
        ]
        kubectl("create", "namespace", self.name)
        rbac = [sys.executable, "-m", "twister2_rm_k8s.rbac", self.name, "--apply"]
        subprocess.run(rbac, check=True, capture_output=True, timeout=60)

    def left(self):
        """Everything that jobs have here."""
        kinds = "jobs,pods,secrets,services,configmaps"
        return kubectl("get", kinds, "-n", self.name, "-l", "twister2.org/job", "-o=name")


@pytest.fixture(scope="module")
def namespace():
    made = Namespace()
    yield made
    kubectl("delete", "namespace", made.name, "--wait=false")
