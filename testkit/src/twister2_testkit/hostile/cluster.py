"""The files that stand for the cluster's database: what was asked for, secrets, requests, and how the pods are."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

CLUSTER = "HOSTILE_CLUSTER"
"""Tells processes in the allocation where the cluster is, as a service account does."""

MARKER = "HOSTILE_JOB"


class JobObjects:
    """The objects of one job: a folder that only manager and node touch."""

    def __init__(self, cluster: str, job_id: str) -> None:
        self.job_id = job_id
        self.cluster = Path(cluster)
        self.path = self.cluster / job_id
        self.logs = self.path / "logs"
        self.pods = self.path / "pods"
        self.home = self.path / "pod"
        """Where every pod finds its own folder."""
        self.requests = self.path / "requests"

    @property
    def exists(self) -> bool:
        return (self.path / "spec.json").exists()

    def create(self) -> None:
        self.cluster.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.mkdir(mode=0o700)
        for folder in (self.logs, self.pods, self.home, self.requests):
            folder.mkdir(mode=0o700)

    def write(self, name: str, data: bytes) -> None:
        """Put a file (0600) there as a whole."""
        write_whole(self.path / name, data)

    def read(self, name: str) -> Any:
        """The JSON of a file, None when there is none."""
        try:
            return json.loads((self.path / name).read_bytes())
        except FileNotFoundError:
            return None


def write_whole(path: Path, data: bytes) -> None:
    """Write a file (0600) that readers see whole or not at all."""
    number, temporary = tempfile.mkstemp(prefix=".new-", dir=path.parent)
    with os.fdopen(number, "wb") as file:
        file.write(data)
    os.replace(temporary, path)
