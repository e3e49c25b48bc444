"""Bytewax: a dataflow in one worker process, two items folded into one."""

# benchmark: venv=bytewax packages=bytewax
from __future__ import annotations

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource, run_main
from harness.contest import Contest


def job() -> int:
    sums: list[tuple[str, int]] = []
    flow = Dataflow("startup")
    numbers = op.key_on("key", op.input("in", flow, TestingSource([20, 22])), lambda _: "all")
    op.output("out", op.fold_final("sum", numbers, int, int.__add__), TestingSink(sums))
    run_main(flow)
    return sums[0][1]


contest = Contest()
contest.report(contest.run(job))
