"""Twister2, TSet: read_parquet of both tables, join of their Arrow batches, sums of batches, reduce."""

# benchmark: venv=twister2 launch=submit packages=twister2-tset,twister2-data-file,numpy,pyarrow
from __future__ import annotations

from typing import TYPE_CHECKING

from harness.contest import Contest
from harness.tables import JOIN_ANSWER, files, named
from harness.twister2_tables import join_figures

from twister2_tset import TSetContext

if TYPE_CHECKING:
    from twister2.spec.environment import WorkerEnvironment


def main(env: WorkerEnvironment) -> None:
    contest = Contest(env.args, reporter=env.worker_id == 0)

    def job() -> dict[str, float]:
        context = TSetContext(env, name="join")
        left, right = (context.read_parquet(files(contest, table)) for table in ("left", "right"))
        figures = left.join(right).map_batches(join_figures, form="arrow").reduce("sum")
        return named(JOIN_ANSWER, figures)

    contest.report(contest.run(job))
