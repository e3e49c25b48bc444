"""What the joins and group-bys on TSets share (imports Twister2's libraries, so for those only)."""

from __future__ import annotations

from typing import Any

import numpy as np
from pyarrow import compute


def join_figures(batch: Any) -> Any:
    """Of an Arrow batch of joined rows: one record, the figures of ``harness.tables.JOIN_ANSWER``."""
    a, b = batch.column("a"), batch.column("b")
    sums = [compute.sum(column).as_py() or 0.0 for column in (a, b, compute.multiply(a, b))]
    return np.array([[batch.num_rows, *sums]])


def group_figures(batch: Any) -> Any:
    """Of an Arrow batch of sums by key: one record, the figures of ``harness.tables.GROUP_ANSWER``."""
    keys, sums = batch.column("k").to_numpy(), batch.column("s").to_numpy()
    return np.array([[len(keys), sums.sum(), keys @ sums, sums.max() if len(sums) else -np.inf]])


def both_groups(one: Any, other: Any) -> Any:
    """The figures of two batches as those of both."""
    return np.append(one[:3] + other[:3], max(one[3], other[3]))
