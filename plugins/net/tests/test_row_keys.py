"""Keys of several columns: each row goes where the tuple of its values goes, whatever holds the columns."""

from __future__ import annotations

import numpy
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twister2.spec.hashing import task_of_key
from twister2_net.selectors.hashing import Hash
from twister2_net.selectors.key_columns import distinct_rows

COLUMNS = {
    "i8": st.integers(-3, 3) | st.just(-(2**63)),
    "u8": st.integers(0, 3) | st.just(2**64 - 1),
    "f8": st.sampled_from([0.0, -0.0, 1.5, float("nan"), float("inf")]),
    "f4": st.sampled_from([0.1, 2.0]),
    "?": st.booleans(),
    "U3": st.text("abä", max_size=3),
    "S9": st.binary(max_size=9),
}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_rows_of_structured_arrays(data):
    kinds = data.draw(st.lists(st.sampled_from(sorted(COLUMNS)), min_size=2, max_size=4))
    rows = data.draw(st.lists(st.tuples(*(COLUMNS[kind] for kind in kinds)), min_size=1, max_size=100))
    dtype = [(f"c{number}", kind) for number, kind in enumerate(kinds)]
    batch = numpy.resize(numpy.array(rows, dtype), 100)
    names = [name for name, _ in reversed(dtype)]
    wanted = [task_of_key(key, 5) for key in zip(*(batch[name].tolist() for name in names), strict=True)]
    assert list(Hash(5, "x", 0, None, names).assign(batch)) == wanted
    assert distinct_rows(batch, names) is not None


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.none() | st.integers(-2, 2), st.none() | st.text("ab", max_size=2)), min_size=1))
def test_rows_of_arrow_batches(rows):
    table = pyarrow.Table.from_pylist([dict(zip("ab", row, strict=True)) for row in rows * 70],
                                      pyarrow.schema({"a": pyarrow.int32(), "b": pyarrow.string()}))  # fmt: skip
    wanted = [task_of_key(row, 5) for row in rows * 70]
    for batch in (table, table.slice(1), table.to_batches()[0]):
        assert list(Hash(5, "x", 0, None, ["a", "b"]).assign(batch)) == wanted[len(wanted) - batch.num_rows :]
        assert distinct_rows(batch, ["a", "b"]) is not None


@pytest.mark.parametrize("kind", [pyarrow.list_(pyarrow.int64()), pyarrow.struct({"x": pyarrow.int64()})])
def test_columns_that_are_looked_at_one_by_one(kind):
    values = [[1, 2]] * 70 if pyarrow.types.is_list(kind) else [{"x": 1}] * 70
    batch = pyarrow.table({"a": pyarrow.array(values, kind), "b": range(70)})
    assert distinct_rows(batch, ["a", "b"]) is None
    array = numpy.zeros(70, [("a", "O"), ("b", "i8")])
    assert distinct_rows(array, ["a", "b"]) is None
    assert len(set(Hash(5, "x", 0, None, ["a", "b"]).assign(array))) == 1
