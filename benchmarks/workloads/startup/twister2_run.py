"""Twister2: a script that calls twister2.run; each worker returns its number."""

# benchmark: venv=twister2 packages=twister2-core
from __future__ import annotations

from typing import TYPE_CHECKING

from harness.contest import Contest

import twister2

if TYPE_CHECKING:
    from twister2.spec.environment import WorkerEnvironment


def main(env: WorkerEnvironment) -> int:
    return [20, 22][env.worker_id]


if __name__ == "__main__":
    contest = Contest()
    contest.report(contest.run(lambda: sum(twister2.run(main, workers=contest.workers, profile="standalone"))))
