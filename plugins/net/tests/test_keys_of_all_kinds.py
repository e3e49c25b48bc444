"""NaN inside tuples, and times with nanoseconds, as keys: in memory and on disk alike."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

import twister2_net
from twister2_net.spilling.runs import windows
from twister2_net.spilling.sorted_columns import ArrayForm, ArrowForm
from twister2_testkit.fakes import LocalCluster
from twister2_testkit.seeds import drawn_seed

NAN = float("nan")


@pytest.mark.parametrize("targets", [[0], [0, 1, 1]])
def test_keys_that_contain_nan_are_one_key(targets):
    records = [((float("nan"), 1), 1), ("a", 2), (float("nan"), 5), ((1, (float("nan"),)), 3), ((1, 2), 4)]

    def main(env):
        with twister2_net.operator(env, "keyed_reduce", sources=[0, 1], targets=targets, reducer="sum") as op:
            found = op.run({source: [records, records] for source in op.local_sources})
        return [pair for items in found.values() for item in items for pair in item.value]

    got = [pair for part in LocalCluster(2).run(main) for pair in part]
    expected = [((NAN, 1), 4), ("a", 8), (NAN, 20), ((1, (NAN,)), 12), ((1, 2), 16)]
    assert sorted(map(repr, got)) == sorted(map(repr, expected))
    assert all(math.isnan(part) for key, _ in got if type(key) is tuple for part in key if type(part) is float)


@pytest.mark.parametrize("dtype", ["M8[s]", "M8[ns]", "m8[ms]", "c16", "f8"])
def test_runs_of_arrays_are_merged_as_numpy_sorts(dtype):
    form, chance = ArrayForm("sorted"), random.Random(drawn_seed())
    blocks = []
    for _ in range(3):
        block = np.zeros(40, [("key", dtype), ("value", "i8")])
        numbers = np.array([chance.choice((0, 1, 2, 10**6)) for _ in range(40)])
        block["key"] = numbers.astype(dtype)
        block["key"][:2] = complex(1, NAN) if dtype == "c16" else "NaT" if dtype[0] in "mM" else NAN
        if dtype == "c16":
            block["key"][2:5] = [complex(NAN, 1), complex(NAN, NAN), 2j]
        blocks.append(block)
    ranks = [form.rank(form.sorted(blocks), at) for at in range(120)]
    assert ranks == sorted(ranks)
    parts = []
    for window in windows([([form.sorted([block])], form) for block in blocks]):
        some = [part for _, part in window.parts]
        if some:
            parts.append(form.whole(some))
    merged = np.concatenate(parts)
    np.testing.assert_array_equal(merged["key"], form.sorted(blocks)["key"])


@pytest.mark.parametrize("kind", ["timestamp", "duration", "time64"])
def test_times_in_nanoseconds_have_an_order_on_disk_too(kind):
    pyarrow = pytest.importorskip("pyarrow")
    form = ArrowForm(("key",), "sorted")
    keys = pyarrow.array([3, None, 1_000_000_001, 1], getattr(pyarrow, kind)("ns"))
    block = form.sorted([pyarrow.record_batch({"key": keys})])
    ranks = [form.rank(block, at) for at in range(4)]
    assert ranks == sorted(ranks)
    if kind != "time64":
        coarse = pyarrow.table({"key": pyarrow.array([1], getattr(pyarrow, kind)("s"))})
        assert ranks[1] < form.rank(coarse, 0) < ranks[2], "both sides of a join may have units of their own"
