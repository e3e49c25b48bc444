"""What ``twister2 doctor`` makes of Nomad's answers, where the real server of the tests gives no such ones."""

from __future__ import annotations

import pytest

from twister2_rm_nomad import probe
from twister2_rm_nomad.api import Api
from twister2_rm_nomad.config import NomadConfig


def node(version, status="ready"):
    resources = {"Cpu": {"CpuShares": 2000, "TotalCpuCores": 2}, "Memory": {"MemoryMB": 4000}}
    drivers = {"raw_exec": {"Healthy": True}}
    row = {"Name": version, "Version": version, "Status": status, "Datacenter": "dc1", "Drivers": drivers}
    return {**row, "NodeResources": resources}


@pytest.mark.parametrize(
    ("nodes", "result", "finding"),
    [
        ([node("1.6.1"), node("1.10.0")], "ok", "nodes have 1.10.0, 1.6.1"),
        ([node("1.6.1"), node("1.4.3")], "failed", "there are nodes of version 1.4.3"),
        ([node("1.6.1"), node("1.4.3", "down")], "ok", "nodes have 1.6.1"),
    ],
    ids=["new enough", "too old", "gone"],
)
def test_the_versions_of_nodes_that_take_jobs_count(monkeypatch, nodes, result, finding):
    monkeypatch.setattr(Api, "get", lambda _, path, **query: nodes if path == "/nodes" else [])
    found = {check.name: check for check in probe.doctor(NomadConfig(), 1.0)}
    assert (found["version"].result, found["version"].finding) == (result, finding)
    assert found["nodes"].result == "ok"
