"""The same with job.memory_mb=300; a worker with over 300 MB resident, no page cache, is a failure."""

# benchmark: venv=twister2 launch=submit options=job.memory_mb=300
# benchmark: packages=twister2-tset,twister2-data-file,numpy
from __future__ import annotations

from typing import TYPE_CHECKING

from harness.contest import Contest
from harness.resident import Resident
from harness.twister2_sort import sort_files

if TYPE_CHECKING:
    from twister2.spec.environment import WorkerEnvironment


def main(env: WorkerEnvironment) -> None:
    contest = Contest(env.args, reporter=env.worker_id == 0)
    with Resident() as resident:
        answer = contest.run(lambda: sort_files(env, contest))
    peaks = env.network.exchange_objects(resident.peak_mb)
    contest.report({**answer, "limit_mb": 300, "resident_mb": peaks})
