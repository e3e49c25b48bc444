"""What a worker tells of its node."""

from __future__ import annotations

import os

from twister2.spec.environment import NodeFacts
from twister2.worker.facts import node_facts, worker_facts


def test_names_of_the_node_come_from_its_environment(monkeypatch):
    for name in ("SLURMD_NODENAME", "TWISTER2_NODE", "TWISTER2_RACK", "TWISTER2_DATACENTER"):
        monkeypatch.delenv(name, raising=False)
    unknown = NodeFacts(**node_facts())
    assert (unknown.node, unknown.rack, unknown.datacenter) == ("", "", "")
    assert unknown.host == os.uname().nodename
    monkeypatch.setenv("TWISTER2_NODE", "n7")
    monkeypatch.setenv("TWISTER2_RACK", "r2")
    monkeypatch.setenv("TWISTER2_DATACENTER", "north")
    known = NodeFacts(**node_facts())
    assert (known.node, known.rack, known.datacenter) == ("n7", "r2", "north")
    monkeypatch.setenv("SLURMD_NODENAME", "node3")
    assert node_facts()["node"] == "node3", "the manager's own name goes first"


def test_memory_and_cores_are_there():
    told = worker_facts()
    assert told["memory_available_mb"] > 0
    assert 1 <= told["cores"] <= (os.cpu_count() or 1)
