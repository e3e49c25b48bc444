from __future__ import annotations

import uuid

import pytest

from twister2.spec.rm import Allocation, ResourceGroup, RmContext
from twister2_rm_standalone.config import StandaloneConfig
from twister2_rm_standalone.plugin import StandalonePlugin


@pytest.fixture
def state_dir(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def make_rm(state_dir):
    def make(**options):
        return StandalonePlugin().rm_create(config=StandaloneConfig(**options), context=RmContext(str(state_dir)))

    return make


@pytest.fixture
def allocation(state_dir):
    def make(*command, n=2, **changes):
        job_id = changes.pop("job_id", f"own-{uuid.uuid4().hex[:12]}")
        values = {
            "job_id": job_id,
            "name": "own",
            "groups": (ResourceGroup("worker", n, cpus=0.1),),
            "worker_command": command,
            "master_command": (),
            "environment": {},
            "ticket": b"ticket",
            "master_ticket": b"",
            "folder": str(state_dir / "jobs" / job_id),
        }
        return Allocation(**{**values, **changes})

    return make


@pytest.fixture
def run(make_rm, allocation):
    """Submit a command; whatever is left of it is ended after the test."""
    rm = make_rm()
    handles = []

    def submit(*command, **changes):
        handles.append(rm.submit(allocation(*command, **changes)))
        return rm, handles[-1]

    yield submit
    for handle in handles:
        rm.kill(handle, 0.5)
        rm.clean(handle)
    rm.close()
