from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from twister2.spec.rm import RmContext
from twister2_rm_k8s.plugin import KubernetesPlugin
from twister2_testkit.rm import ResourceManagerSuite

TEMPLATE = """
# The suite looks at the processes of pods from the host, and reads what they write into a folder.
spec:
  hostPID: true
  shareProcessNamespace: null
  volumes: [{name: shared, hostPath: {path: %(folder)s}}]
  containers: [{name: "*", volumeMounts: [{name: shared, mountPath: %(folder)s}]}]
"""


class PodsOwn(set):
    """Variables in which the containers of one Job differ."""

    def __contains__(self, name):
        return super().__contains__(name) or name in ("HOSTNAME", "JOB_COMPLETION_INDEX", "PWD")


@pytest.mark.needs_k8s
@pytest.mark.timeout(240)
class TestKubernetes(ResourceManagerSuite):
    python = "/usr/local/bin/python3"
    ticket_blinks = True  # the kubelet replaces the folder that it lies in
    ticket_modes = ("0o440",)  # of root's; the group is that of the pod alone

    @pytest.fixture(autouse=True)
    def _namespace(self, kubernetes):
        self.namespace = kubernetes
        self.template = kubernetes.shared / "template.yaml"
        self.template.write_text(TEMPLATE % {"folder": kubernetes.shared})
        before = os.umask(0)  # pods are another user, who must write into the folders of a test
        yield
        os.umask(before)

    def make_backend(self, state_dir):
        config = self.namespace.config(pod_template=str(self.template))
        return KubernetesPlugin().rm_create(config=config, context=RmContext(str(state_dir)))

    def copy_folder(self, tmp_path):
        folder = Path(tempfile.mkdtemp(dir=self.namespace.shared))
        folder.chmod(0o777)
        return folder

    def doctor(self, state_dir):
        return KubernetesPlugin().rm_doctor(config=self.namespace.config(), context=RmContext(str(state_dir)))

    def own_variables(self):
        return PodsOwn(super().own_variables())
