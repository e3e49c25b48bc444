"""Twister2: `twister2 submit` of a program; the workers exchange their numbers, worker 0 prints the answer."""

# benchmark: venv=twister2 launch=submit packages=twister2-core
from __future__ import annotations

from typing import TYPE_CHECKING

from harness.contest import Contest

if TYPE_CHECKING:
    from twister2.spec.environment import WorkerEnvironment


def main(env: WorkerEnvironment) -> None:
    contest = Contest(env.args, reporter=env.worker_id == 0)
    contest.report(contest.run(lambda: sum(env.controller.exchange("numbers", [20, 22][env.worker_id]))))
