"""Nomad, beside a batch job of as many raw_exec tasks that exit at once, from its registration until all have."""

# benchmark: venv=twister2 packages=twister2-rm-nomad
from __future__ import annotations

import json
import os
import time
import urllib.request
import uuid

from harness.managers import LIMIT_S, main

HEADERS = {"X-Nomad-Token": os.environ.get("NOMAD_TOKEN", "")}


def call(method: str, path: str, body: object = None) -> tuple[object, str]:
    data = None if body is None else json.dumps(body).encode()
    address = os.environ["NOMAD_ADDR"] + "/v1" + path
    request = urllib.request.Request(address, data, HEADERS, method=method)
    with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:
        return json.loads(answer.read() or b"null"), answer.headers.get("X-Nomad-Index") or "0"


def down() -> str:
    if not os.environ.get("NOMAD_ADDR"):
        return "NOMAD_ADDR is not set"
    try:
        leader, _ = call("GET", "/status/leader")
    except OSError as error:
        return str(error)
    return "" if leader else "it has no leader"


def bare(workers: int) -> None:
    name = f"bare-{uuid.uuid4().hex[:8]}"
    task = {
        "Name": "t",
        "Driver": "raw_exec",
        "Config": {"command": "/bin/true"},
        "Resources": {"CPU": 100, "MemoryMB": 32},
        "LogConfig": {"MaxFiles": 1, "MaxFileSizeMB": 1},
    }
    group = {"Name": "g", "Count": workers, "EphemeralDisk": {"SizeMB": 50}, "Tasks": [task]}
    job = {"ID": name, "Name": name, "Type": "batch", "Datacenters": ["*"], "TaskGroups": [group]}
    call("POST", "/jobs", {"Job": job})
    index, end = "0", time.time() + LIMIT_S
    while True:  # answers as soon as something has changed
        found, index = call("GET", f"/job/{name}/allocations?index={index}&wait=5s")
        states = [each["ClientStatus"] for each in found]
        if states.count("complete") == workers:
            break
        if "failed" in states or time.time() > end:
            raise RuntimeError(f"the allocations are {states}")
    call("DELETE", f"/job/{name}?purge=true")


if __name__ == "__main__":
    main("nomad", bare=bare, down=down)
