"""Aggregates by keys that lie close together are those that pyarrow makes."""

from __future__ import annotations

import numpy
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twister2_net.operators import aggregating_columns
from twister2_net.operators.aggregating_columns import ColumnPlan, Out

FUNCTIONS = ("sum", "min", "max", "count", "mean")
OUTS = (*(Out(f"{column} {name}", column, name) for column in "vw" for name in FUNCTIONS), Out("rows", None, "count"))


def rows(plan, batches):
    partials = [plan.partial([plan.projected(batch)]) for batch in batches]
    return sorted(plan.finished(plan.merged(partials)).to_pylist(), key=lambda row: row["k"])


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(st.integers(0, 2**32), st.sampled_from(["int8", "int32", "int64"]), st.sampled_from(["float64", "float32"]),
       st.integers(-1000, 1000), st.booleans())  # fmt: skip
def test_dense_keys(seed, kind, floats, offset, large):
    chance = numpy.random.default_rng(seed)
    offset = 0 if kind == "int8" else offset

    def batch(n):
        values = chance.integers(-(2**61), 2**61, n) if large else chance.integers(-99, 99, n)
        return pa.record_batch(
            {
                "k": pa.array(chance.integers(-50, 50, n) + offset).cast(kind),
                "v": values,
                "w": pa.array(chance.integers(-8, 8, n).astype(floats)),
            }
        )

    plan = ColumnPlan(("k",), OUTS, 0, {}, "aggregate")
    batches = [batch(n) for n in (300, 1, 40)]
    if large:
        plan = ColumnPlan(("k",), (Out("v max", "v", "max"), Out("v mean", "v", "mean")), 0, {}, "aggregate")
    found = rows(plan, batches)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(aggregating_columns, "grouped", lambda *given: None)
        assert rows(plan, batches) == found
    keys = [key for one in batches for key in one.column("k").to_pylist()]
    assert [row["k"] for row in found] == sorted(set(keys))
