"""Twister2, TSet: read_binary, sort by two columns, write_binary (with fsync, which by hand is left out)."""

# benchmark: venv=twister2 launch=submit packages=twister2-tset,twister2-data-file,numpy
from __future__ import annotations

from typing import TYPE_CHECKING

from harness.contest import Contest
from harness.twister2_sort import sort_files

if TYPE_CHECKING:
    from twister2.spec.environment import WorkerEnvironment


def main(env: WorkerEnvironment) -> None:
    contest = Contest(env.args, reporter=env.worker_id == 0)
    contest.report(contest.run(lambda: sort_files(env, contest)))
