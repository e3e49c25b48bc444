"""Twister2, TSet: flat_map(str.split) and count_by_value; worker 0 reports."""

# benchmark: venv=twister2 launch=submit packages=twister2-core
from __future__ import annotations

from typing import TYPE_CHECKING

from harness.contest import Contest
from harness.twister2 import answer

from twister2_tset import TSetContext

if TYPE_CHECKING:
    from twister2.spec.environment import WorkerEnvironment


def main(env: WorkerEnvironment) -> None:
    contest = Contest(env.args, reporter=env.worker_id == 0)
    lines = TSetContext(env).read_text(contest.input("words", ".txt"))
    contest.report(contest.run(lambda: answer(lines.flat_map(str.split).count_by_value())))
