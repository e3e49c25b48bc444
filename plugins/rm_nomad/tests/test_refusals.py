"""What Nomad refuses, or can never do: each a clear error at once, and nothing left behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid

import pytest

from twister2.spec.errors import ResourceError, ResourcesExceededError, SubmissionRefusedError
from twister2.spec.rm import Allocation, JobHandle, JobState, ResourceGroup, RmContext
from twister2_rm_nomad.config import NomadConfig
from twister2_rm_nomad.plugin import NomadPlugin

pytestmark = pytest.mark.needs_nomad
READ_ONLY = 'namespace "default" { policy = "read" }'
ENOUGH = """
namespace "default" {
  capabilities = ["submit-job", "read-job", "list-jobs", "read-logs", "read-fs", "alloc-lifecycle"]
  variables { path "nomad/jobs/twister2-*" { capabilities = ["write", "read", "list", "destroy"] } }
}
"""


def call(method, path, body=None):
    headers = {"X-Nomad-Token": os.environ["NOMAD_TOKEN"]}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(os.environ["NOMAD_ADDR"] + "/v1" + path, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=20) as answer:
        text = answer.read()
    return json.loads(text) if text.strip() else None


@pytest.fixture
def backend(tmp_path):
    def make(**options):
        return NomadPlugin().rm_create(NomadConfig(**options), RmContext(str(tmp_path), 10.0))

    return make


@pytest.fixture
def token(tmp_path):
    """Makes tokens with a policy; a file with the token."""
    made = []

    def make(rules, **more):
        name = f"t2-{uuid.uuid4().hex[:8]}"
        call("POST", f"/acl/policy/{name}", {"Name": name, "Rules": rules})
        given = call("POST", "/acl/token", {"Name": name, "Type": "client", "Policies": [name], **more})
        made.append((name, given["AccessorID"]))
        path = tmp_path / name
        path.write_text(given["SecretID"] + "\n")
        return str(path)

    yield make
    for name, accessor in made:
        with contextlib.suppress(urllib.error.HTTPError):  # it has expired
            call("DELETE", f"/acl/token/{accessor}")
        call("DELETE", f"/acl/policy/{name}")


def allocation(tmp_path, **changes):
    job_id = f"no-{uuid.uuid4().hex[:12]}"
    values = {
        "job_id": job_id,
        "name": "refused",
        "groups": (ResourceGroup("worker", 2, cpus=0.1),),
        "worker_command": ("sleep", "600"),
        "master_command": ("sleep", "600"),
        "environment": {},
        "ticket": b"s3cr3t",
        "master_ticket": b"",
        "folder": str(tmp_path / job_id),
    }
    return Allocation(**{**values, **changes})


def nothing_of(wanted):
    name = f"twister2-{wanted.job_id}"
    return not call("GET", f"/jobs?prefix={name}") and not call("GET", f"/vars?prefix=nomad/jobs/{name}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"datacenters": ("nowhere",)}, "no node of Nomad is in datacenter nowhere.*ready nodes are in: dc1"),
        ({"driver": "exec"}, "no node of Nomad has the driver 'exec'.*raw_exec"),
        ({"namespace": "nosuch"}, "namespace"),
        ({"region": "atlantis"}, "(?i)region"),
        ({"node_pool": "nosuch"}, "node"),
        ({"driver": "docker"}, "needs an image"),
    ],
)
def test_a_place_that_does_not_exist(backend, tmp_path, options, what):
    wanted = allocation(tmp_path)
    with pytest.raises(SubmissionRefusedError) as caught:
        backend(**options).submit(wanted)
    assert re.search(what, str(caught.value), re.DOTALL), caught.value
    assert caught.value.remedy
    assert nothing_of(wanted)


@pytest.mark.parametrize("group", [ResourceGroup("w", 1, memory_mb=10**7), ResourceGroup("w", 1, cpus=10**4)])
def test_more_than_any_node_has(backend, tmp_path, group):
    wanted = allocation(tmp_path, groups=(group,))
    with pytest.raises(ResourcesExceededError, match="a copy asks for"):
        backend().submit(wanted)
    assert nothing_of(wanted)


def test_more_than_all_nodes_have(backend, tmp_path):
    wanted = allocation(tmp_path, groups=(ResourceGroup("w", 1000, cpus=0.001, memory_mb=30000),))
    with pytest.raises(ResourcesExceededError, match="1,000 copies ask for 30,000,000 MiB"):
        backend().submit(wanted)
    assert nothing_of(wanted)


def test_a_server_that_is_down(backend, tmp_path):
    rm = backend(address=f"http://127.0.0.1:{free_port()}")
    handle = JobHandle("nomad", "x", "twister2-x")
    for ask in (lambda: rm.submit(allocation(tmp_path)), lambda: rm.state(handle), lambda: rm.kill(handle, 0.1)):
        begun = time.monotonic()
        with pytest.raises(ResourceError, match="Nomad does not answer") as caught:
            ask()
        assert time.monotonic() - begun < 60, "it waits for what refuses it"
        assert "rm.nomad.address" in caught.value.remedy
    probe = NomadPlugin().rm_probe(NomadConfig(address=f"http://127.0.0.1:{free_port()}"))
    assert not probe.ok


def test_tls_where_there_is_none_and_no_nomad(backend, tmp_path):
    address = os.environ["NOMAD_ADDR"].replace("http:", "https:")
    with pytest.raises(ResourceError, match="secure connection"):
        backend(address=address).submit(allocation(tmp_path))
    with pytest.raises(ResourceError, match=r"rm.nomad.ca_cert|certificates"):
        backend(address=address, ca_cert=str(tmp_path / "nothing")).submit(allocation(tmp_path))


def test_tokens(backend, tmp_path, token, monkeypatch):
    wanted = allocation(tmp_path)
    readable = token(READ_ONLY)
    with pytest.raises(SubmissionRefusedError, match="may not do this in namespace 'default'"):
        backend(token_file=readable).submit(wanted)
    gone = tmp_path / "gone"
    gone.write_text(str(uuid.uuid4()))
    with pytest.raises(SubmissionRefusedError, match="does not know the token"):
        backend(token_file=str(gone)).submit(wanted)
    with pytest.raises(ResourceError, match="cannot be read"):
        backend(token_file=str(tmp_path / "absent")).submit(wanted)
    monkeypatch.delenv("NOMAD_TOKEN")
    with pytest.raises(SubmissionRefusedError, match="wants a token, and none was given") as caught:
        backend().submit(wanted)
    assert "NOMAD_TOKEN" in caught.value.remedy
    monkeypatch.undo()
    assert nothing_of(wanted)


def test_somebody_elses_job(backend, tmp_path, token):
    rm = backend()
    handle = rm.submit(allocation(tmp_path))
    other = backend(token_file=token(READ_ONLY))
    try:
        assert other.find(handle.job_id) == handle
        with pytest.raises(SubmissionRefusedError, match="may not do this in namespace 'default'"):
            other.kill(handle, 0.1)
        assert not rm.state(handle).state.final
    finally:
        rm.kill(handle, 0.1)
        rm.clean(handle)
    rm.kill(handle, 0.1)  # a finished one


def test_a_token_that_expires_and_is_renewed(backend, token):
    path = token(ENOUGH, ExpirationTTL="2s")
    rm = backend(token_file=path)
    error, end = None, time.monotonic() + 60
    while error is None:
        assert time.monotonic() < end, "the token was good for longer than it should be"
        time.sleep(0.2)
        try:
            rm.find("unknown")
        except SubmissionRefusedError as caught:
            error = caught
    assert "the token for Nomad has expired" in str(error)
    assert "rm.nomad.token_file" in error.remedy
    with open(path, "w") as file:  # it is read at each call
        file.write(os.environ["NOMAD_TOKEN"])
    assert rm.find("unknown") is None


def test_the_rights_that_are_documented_are_enough(backend, tmp_path, token):
    rm = backend(token_file=token(ENOUGH))
    handle = rm.submit(allocation(tmp_path))
    end = time.monotonic() + 60
    while rm.state(handle).state is not JobState.RUNNING:
        assert time.monotonic() < end, rm.state(handle)
        time.sleep(0.1)
    rm.publish(handle, b"again")
    rm.stop_attempt(handle, [0], 0.5)
    rm.start_attempt(handle, 2, [0])
    rm.kill(handle, 0.5)
    assert rm.clean(handle) == []
    assert rm.find(handle.job_id) is None


def test_the_same_job_twice(backend, tmp_path):
    rm, wanted = backend(), allocation(tmp_path)
    handle = rm.submit(wanted)
    with pytest.raises(ResourceError):
        rm.submit(wanted)
    assert rm.find(wanted.job_id) is not None, "the first one was ended"
    rm.kill(handle, 0.1)
    rm.clean(handle)
    assert nothing_of(wanted)


def test_a_full_cluster_is_told(backend, tmp_path):
    """Two jobs of which each has room, and both have not."""
    rm = backend()
    big = ResourceGroup("big", 2, cpus=0.1, memory_mb=20000)
    first = rm.submit(allocation(tmp_path, groups=(big,)))
    second = rm.submit(allocation(tmp_path, groups=(big,)))
    try:
        end = time.monotonic() + 60
        while "memory" not in (status := rm.state(second)).reason:
            assert time.monotonic() < end, status
            time.sleep(0.1)
        assert status.state is JobState.QUEUED
        assert "2 of 2 copies have no node" in status.reason
        assert "too little memory (job.memory_mb) left" in status.reason
    finally:
        for handle in (first, second):
            rm.kill(handle, 0.1)
            rm.clean(handle)


def test_a_docker_job_waits_for_the_driver_only(backend, tmp_path):
    """Experimental: there is no engine here. Nomad accepts what is rendered, and misses the driver on its nodes."""
    wanted = allocation(tmp_path)
    options = {"driver": "docker", "image": "registry/worker:1", "ticket_uid": 1000}
    shown = json.loads(backend(**options).render(wanted))["Job"]
    (task,) = shown["TaskGroups"][0]["Tasks"]
    assert task["Driver"] == "docker"
    assert task["Config"]["image"] == "registry/worker:1"
    assert task["Config"]["network_mode"] == "host"
    assert task["Config"]["command"] == "/bin/sh"
    assert task["Config"]["args"][0] == "${NOMAD_TASK_DIR}/copy.sh"
    assert task["Config"]["args"][-2:] == ["sleep", "600"]
    assert [each.get("Uid") for each in task["Templates"]] == [None, 1000]
    assert task["Templates"][1]["Wait"]["Min"] < 10**9, "copies would wait for tickets as long as Nomad's default is"
    planned = call("POST", f"/job/{shown['ID']}/plan", {"Job": shown})
    (failed,) = planned["FailedTGAllocs"].values()
    assert list(failed["ConstraintFiltered"]) == ["missing drivers"]
    with pytest.raises(SubmissionRefusedError, match="no node of Nomad has the driver 'docker'"):
        backend(**options).submit(wanted)
    assert nothing_of(wanted)


def test_nomad_itself_accepts_what_is_rendered(backend, tmp_path):
    program = next(
        path
        for path in (
            os.path.join(os.environ.get("TWISTER2_CLUSTERS_CACHE", ""), "nomad-1.6.1/nomad"),
            os.path.expanduser("~/.cache/twister2-clusters/nomad-1.6.1/nomad"),
            os.path.join(os.environ.get("XDG_CACHE_HOME", ""), "twister2-clusters/nomad-1.6.1/nomad"),
        )
        if os.path.exists(path)
    )
    wanted = allocation(tmp_path, master=ResourceGroup("master", 1), master_ticket=b"s3cr3t-too")
    text = backend().render(wanted)
    assert "s3cr3t" not in text
    assert os.environ["NOMAD_TOKEN"] not in text
    done = subprocess.run(
        [program, "job", "plan", "-json", "-"], input=text, capture_output=True, text=True, timeout=90
    )
    assert done.returncode in (0, 1), done.stderr  # 1: it would place allocations
    assert "All tasks successfully allocated" in done.stdout
