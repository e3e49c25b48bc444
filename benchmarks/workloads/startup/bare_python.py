"""Floor: one interpreter that adds two numbers."""

# benchmark: venv=main
from __future__ import annotations

from harness.contest import Contest

contest = Contest()
contest.report(contest.run(lambda: sum([20, 22])))
