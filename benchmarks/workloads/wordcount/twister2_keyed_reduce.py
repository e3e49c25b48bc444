"""Twister2, TSet: flat_map(str.split), map_to_tuple with a lambda, keyed_reduce(operator.add); worker 0 reports."""

# benchmark: venv=twister2 launch=submit packages=twister2-core
from __future__ import annotations

import operator
from typing import TYPE_CHECKING

from harness.contest import Contest
from harness.twister2 import answer

from twister2_tset import TSetContext

if TYPE_CHECKING:
    from twister2.spec.environment import WorkerEnvironment


def main(env: WorkerEnvironment) -> None:
    contest = Contest(env.args, reporter=env.worker_id == 0)
    lines = TSetContext(env).read_text(contest.input("words", ".txt"))
    pairs = lines.flat_map(str.split).map_to_tuple(lambda word: (word, 1))
    contest.report(contest.run(lambda: answer(pairs.keyed_reduce(operator.add))))
