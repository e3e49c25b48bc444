"""Wheels that travel with a job, in pods whose root can only be read."""

from __future__ import annotations

import zipfile

import pytest

from twister2_testkit.managed import ManagedJobs

pytestmark = [pytest.mark.needs_k8s, pytest.mark.timeout(170)]

PROGRAM = """
import kit_shipped

def main(env):
    print(kit_shipped.VALUE, kit_shipped.__file__.split("/wheels/")[0], flush=True)
"""
CACHE = """
spec:
  containers:
  - name: worker
    env: [{name: XDG_CACHE_HOME, value: /kept}]
    volumeMounts: [{name: kept, mountPath: /kept}]
  volumes: [{name: kept, emptyDir: {}}]
"""


@pytest.mark.parametrize("cache", ["/tmp/.cache", "/kept"])
def test_they_are_unpacked_where_pods_may_write(tmp_path, namespace, cache):
    with zipfile.ZipFile(tmp_path / "kit_shipped-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("kit_shipped.py", "VALUE = 42\n")
    options = [*namespace.options, "job.cpus=0.1", "job.wheels=kit_shipped-1.0-py3-none-any.whl"]
    if cache == "/kept":
        (tmp_path / "pod.yaml").write_text(CACHE)
        options.append("rm.k8s.pod_template=pod.yaml")
    with ManagedJobs(tmp_path, "k8s", PROGRAM) as jobs:
        words = [word for option in options for word in ("-o", option)]
        code, out, err = jobs.run("submit", "k8s", "-n", 2, *words, "program.py")
    assert code == 0, err
    assert out == f"42 {cache}/twister2\n" * 2
    assert not namespace.left()
