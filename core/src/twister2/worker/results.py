"""Results of workers on their way back to the caller of ``run``."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from twister2.spec.errors import ResultError

if TYPE_CHECKING:
    from twister2.worker.environment import Environment


def pickled_result(result: Any, environment: Environment) -> bytes:
    """The bytes of a worker's result.

    :raises ResultError: it cannot be pickled, or is larger than ``job.result_limit_mb``.
    """
    limit = int(environment.config["job"]["result_limit_mb"])
    try:
        blob = pickle.dumps(result, protocol=5)
    except Exception as first:
        import cloudpickle

        try:
            blob = cloudpickle.dumps(result, protocol=5)
        except Exception:
            raise ResultError(
                f"worker {environment.worker_id}'s result of type {type(result).__name__} cannot be returned",
                why=f"it cannot be pickled: {first}",
                remedy="return plain data, arrays or objects of importable classes; keep open files and sockets out",
            ) from first
    if len(blob) > limit << 20:
        raise ResultError(
            f"worker {environment.worker_id}'s result is {len(blob) / (1 << 20):.1f} MiB",
            why=f"run() returns at most {limit} MiB per worker",
            remedy="write it to a file or return a summary; raise job.result_limit_mb if it is meant",
        )
    return blob
