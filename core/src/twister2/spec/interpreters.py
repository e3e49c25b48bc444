"""What all interpreters of a job are started with. Cheap to import: launchers are started before anything else."""

from __future__ import annotations

import os
import zlib


def hash_seed(job_id: str) -> str:
    """``PYTHONHASHSEED`` of all interpreters of a job: sets of text have the same order on every worker.

    What the user has set in the environment comes first.
    """
    return os.environ.get("PYTHONHASHSEED") or str(zlib.crc32(job_id.encode()))
