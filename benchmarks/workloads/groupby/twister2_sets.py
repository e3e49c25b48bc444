"""Twister2, TSet: read_parquet, group_by("k").agg(s=("v", "sum")) of Arrow batches, sums of batches, reduce."""

# benchmark: venv=twister2 launch=submit packages=twister2-tset,twister2-data-file,numpy,pyarrow
from __future__ import annotations

from typing import TYPE_CHECKING

from harness.contest import Contest
from harness.tables import GROUP_ANSWER, files, named
from harness.twister2_tables import both_groups, group_figures

from twister2_tset import TSetContext

if TYPE_CHECKING:
    from twister2.spec.environment import WorkerEnvironment


def main(env: WorkerEnvironment) -> None:
    contest = Contest(env.args, reporter=env.worker_id == 0)

    def job() -> dict[str, float]:
        rows = TSetContext(env, name="groupby").read_parquet(files(contest, "rows"))
        sums = rows.group_by("k").agg(s=("v", "sum"))
        return named(GROUP_ANSWER, sums.map_batches(group_figures, form="arrow").reduce(both_groups))

    contest.report(contest.run(job))
