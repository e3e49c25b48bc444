"""What a Mesos refuses, or cannot do now; and a Mesos that knows whom it talks to."""

from __future__ import annotations

import json
import os
import time
import uuid

import pytest

from twister2.spec.errors import ResourceError, SubmissionRefusedError
from twister2.spec.rm import Allocation, JobHandle, JobState, ResourceGroup, RmContext
from twister2_rm_mesos.config import MesosConfig
from twister2_rm_mesos.plugin import MesosPlugin

pytestmark = [pytest.mark.needs_mesos, pytest.mark.timeout(240)]


@pytest.fixture
def backend(tmp_path):
    """Makes backends; ``where`` is a host of its own."""

    def make(where="here", **options):
        config = MesosConfig(masters=(os.environ["TWISTER2_MESOS_MASTER"],), poll_s=0.05, **options)
        return MesosPlugin().rm_create(config, RmContext(str(tmp_path / where)))

    return make


def allocation(tmp_path, **changes):
    job_id = f"no-{uuid.uuid4().hex[:12]}"
    values = {
        "job_id": job_id,
        "name": "refused",
        "groups": (ResourceGroup("worker", 2, cpus=0.1),),
        "worker_command": ("sleep", "60"),
        "master_command": (),
        "environment": {},
        "ticket": b"s3cr3t",
        "master_ticket": b"",
        "folder": str(tmp_path / job_id),
    }
    return Allocation(**{**values, **changes})


def until(rm, handle, what):
    end = time.monotonic() + 60
    while not what(status := rm.state(handle)):
        assert time.monotonic() < end, status
        time.sleep(0.05)
    return status


def test_the_same_job_twice(backend, tmp_path):
    rm, wanted = backend(), allocation(tmp_path)
    handle = rm.submit(wanted)
    try:
        with pytest.raises(SubmissionRefusedError, match="is there already"):
            rm.submit(wanted)
        until(rm, handle, lambda status: status.state is JobState.RUNNING)
    finally:
        rm.kill(handle, 0.1)
        assert rm.clean(handle) == []
    assert rm.find(wanted.job_id) is None
    rm.kill(handle, 0.1)  # finished
    rm.kill(JobHandle("mesos", "unknown", "no-such-framework"), 0.1)


def test_a_full_cluster_is_told(backend, tmp_path):
    """Two jobs of which each has room, and both have not."""
    rm = backend()
    first = rm.submit(allocation(tmp_path, groups=(ResourceGroup("big", 3, cpus=0.1, memory_mb=9000),)))
    handles = [first]
    try:
        until(rm, first, lambda status: status.state is JobState.RUNNING)
        handles.append(rm.submit(allocation(tmp_path, groups=(ResourceGroup("big", 2, cpus=0.1, memory_mb=9000),))))
        status = until(rm, handles[1], lambda status: "memory" in status.reason)
        assert status.state is JobState.QUEUED
        assert "2 of 2 copies have no agent: a copy asks for 9000 MiB of memory" in status.reason
        rm.kill(first, 0.1)
        until(rm, handles[1], lambda status: status.state is JobState.RUNNING)
    finally:
        for handle in handles:
            rm.kill(handle, 0.1)
            rm.clean(handle)


ACLS = {
    "register_frameworks": [
        {"principals": {"values": ["anna"]}, "roles": {"values": ["research"]}},
        {"principals": {"type": "ANY"}, "roles": {"type": "NONE"}},
    ],
    "teardown_frameworks": [
        {"principals": {"values": ["operator"]}, "framework_principals": {"type": "ANY"}},
        {"principals": {"type": "ANY"}, "framework_principals": {"type": "NONE"}},
    ],
}


def test_principals(backend, own_mesos, tmp_path):
    """A Mesos that authenticates frameworks, operators and readers of files, and knows what each may do."""
    own_mesos("start", "1", TWISTER2_MESOS_CREDENTIALS="anna:s3cret bob:other", TWISTER2_MESOS_ACLS=json.dumps(ACLS))
    for name, secret in (("anna", "s3cret"), ("bob", "other"), ("wrong", "guessed")):
        (tmp_path / name).write_text(secret + "\n")
    anna = {"principal": "anna", "role": "research", "secret_file": str(tmp_path / "anna")}
    bob = {"principal": "bob", "role": "research", "secret_file": str(tmp_path / "bob")}

    for options, words in (
        ({"role": "research"}, "none was given"),
        (anna | {"secret_file": str(tmp_path / "wrong")}, "does not accept the credentials"),
        (anna | {"role": "other"}, "(?i)not authorized"),
        (bob, "(?i)not authorized"),
        (anna | {"secret_file": str(tmp_path / "absent")}, "cannot be read"),
    ):
        wanted = allocation(tmp_path)
        with pytest.raises(ResourceError, match=words):
            backend(**options).submit(wanted)
        assert backend(**anna).find(wanted.job_id) is None

    rm = backend(**anna)
    handle = rm.submit(allocation(tmp_path, worker_command=("sh", "-c", "echo it runs; sleep 60")))
    until(rm, handle, lambda status: status.state is JobState.RUNNING)
    end = time.monotonic() + 60
    while "it runs" not in "".join(chunk.text for chunk in rm.logs(handle)):
        assert time.monotonic() < end, "agents' files were not read"
        time.sleep(0.1)
    other = backend("bobs", **bob)
    with pytest.raises(SubmissionRefusedError, match="does not permit this to principal 'bob'"):
        other.kill(other.find(handle.job_id), 0.1)
    assert rm.state(handle).state is JobState.RUNNING
    rm.kill(handle, 0.1)
    assert rm.state(handle).state is JobState.KILLED
    assert rm.clean(handle) == []
    assert other.find(handle.job_id) is None
