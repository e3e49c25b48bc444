"""Range partition of structured arrays by named fields: targets are those of the values, whatever the fields' types."""

from __future__ import annotations

from bisect import bisect_right

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twister2_net import partition
from twister2_net.selectors.ranges import Range
from twister2_testkit.fakes import LocalCluster

DTYPE = [("first", "S3"), ("big", ">u8"), ("small", "u1"), ("signed", "i8"), ("rest", "V5")]
VALUES = {
    "big": st.integers(0, (1 << 64) - 1),
    "small": st.integers(0, 255),
    "signed": st.integers(-(1 << 63), (1 << 63) - 1),
    "first": st.binary(max_size=3).map(lambda text: text.rstrip(b"\0")),
}


@pytest.mark.parametrize("name", VALUES)
@given(data=st.data())
def test_targets_are_those_of_the_values(name: str, data: st.DataObject) -> None:
    values = data.draw(st.lists(VALUES[name], max_size=20))
    anything = VALUES[name] if name == "first" else st.integers(-(1 << 63), (1 << 64) - 1)
    bounds = sorted(data.draw(st.lists(anything, min_size=1, max_size=4)))
    batch = numpy.zeros(len(values), DTYPE)
    batch[name] = values
    found = Range(len(bounds) + 1, "range", 0, None, bounds, [name]).assign(batch)
    assert [int(target) for target in found] == [bisect_right(bounds, value) for value in values]


@pytest.mark.parametrize("columns", [["first"], ["small", "big"], ["big"]])
def test_records_come_in_ranges_in_their_own_form(columns: list[str]) -> None:
    def run(env):
        random = numpy.random.default_rng(env.worker_id)
        batch = numpy.frombuffer(random.bytes(500 * numpy.dtype(DTYPE).itemsize), DTYPE)
        return batch, partition(env, batch, "range", key=columns)

    results = LocalCluster(3).run(run)
    assert {got.dtype for _, got in results} == {numpy.dtype(DTYPE)}
    ends = []
    for _, got in results:
        keys = sorted(zip(*(got[name].tolist() for name in columns), strict=True))
        ends += [keys[0], keys[-1]]
    assert ends == sorted(ends)
    given_, got = (sorted(record.tobytes() for pair in results for record in pair[at]) for at in (0, 1))
    assert given_ == got
