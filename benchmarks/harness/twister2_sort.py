"""The sort on TSets (imports Twister2, so for its contestants only)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.records import RECORD
from harness.sizes import PARTS
from twister2_tset import TSetContext

if TYPE_CHECKING:
    from harness.contest import Contest
    from twister2.spec.environment import WorkerEnvironment


def sort_files(env: WorkerEnvironment, contest: Contest) -> dict[str, str]:
    """Sort the records; a file for each worker."""
    paths = [contest.input("records", f"-{part}.bin") for part in range(PARTS)]
    records = TSetContext(env, name="terasort").read_binary(paths, dtype=RECORD)
    records.sort("prefix", "suffix").write_binary(contest.output, overwrite=True)
    return {"folder": contest.output}
