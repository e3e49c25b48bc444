"""Which columns of their inputs operators say they look at."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twister2_net.combining.columns_read import READS
from twister2_net.schemas import names_of_right

NAMES = ["k", "a", "a_right", "a_right_right", "b", "b_right"]
COLUMNS = st.lists(st.sampled_from(NAMES), unique=True).map(lambda names: ["k", *(n for n in names if n != "k")])


def origins(left, right):
    """Where the columns of a join come from, by name."""
    named = names_of_right(left, right, ["k"])
    return {**{name: ("left", name) for name in left}, **{new: ("right", name) for name, new in named.items()}}


@given(left=COLUMNS, right=COLUMNS, data=st.data())
def test_columns_of_a_join_have_their_names_without_those_that_nobody_looks_at(left, right, data):
    before = origins(left, right)
    wanted = tuple(data.draw(st.lists(st.sampled_from(sorted(before)), unique=True)))
    known = [pa.schema([(name, pa.int64()) for name in names]) for names in (left, right)]
    options = {"left_key": ["k"], "right_key": "k"}
    fewer = READS["join"](options, wanted, known)
    assert all(set(some) <= set(names) and "k" in some for some, names in zip(fewer, (left, right), strict=True))
    after = origins(
        *([name for name in names if name in some] for names, some in zip((left, right), fewer, strict=True))
    )
    assert {name: after.get(name) for name in wanted} == {name: before[name] for name in wanted}
    for blind in range(2):
        some = [None if side == blind else schema for side, schema in enumerate(known)]
        assert READS["join"](options, wanted, some) == [None if side == blind else fewer[side] for side in range(2)]


SCHEMAS = [pa.schema([(name, pa.int64()) for name in names]) for names in (["k", "a", "b"], ["j", "a"])]


@pytest.mark.parametrize(
    ("operator", "options", "wanted", "columns"),
    [
        ("sort", {"key": ["k", "b"]}, ("a",), ("k", "b", "a")),
        ("sort", {"key": "k"}, None, None),
        ("sort", {"key": len}, ("a",), None),
        ("sort", {"key": ["k", len]}, ("a",), None),
        ("sort", {}, ("a",), None),
        ("distinct", {"key": ["k"]}, (), ("k",)),
        ("distinct", {}, ("a",), None),
        ("partition", {"key": "k"}, ("a",), ("k", "a")),
        ("partition", {}, ("a",), None),
        ("partition", {"partitioner": "round_robin"}, ("a",), ("a",)),
        ("partition", {"partitioner": lambda row, n: 0}, ("a",), None),
        ("keyed_partition", {"key": "k", "partitioner": "range"}, ("a",), ("k", "a")),
        ("broadcast", {}, ("a",), ("a",)),
        ("aggregate", {"key": "k", "aggregates": {"n": "count"}}, None, ("k",)),
    ],
)
def test_what_an_operator_of_one_input_looks_at(operator, options, wanted, columns):
    assert READS[operator](options, wanted, SCHEMAS[:1]) == [columns]


@pytest.mark.parametrize(
    ("operator", "options", "wanted", "columns"),
    [
        ("join", {}, ("a",), [None, None]),
        ("join", {"left_key": "k", "right_key": len}, ("a",), [None, None]),
        ("join", {"left_key": "k", "right_key": "j"}, None, [None, None]),
        ("join", {"left_key": "k", "right_key": "j", "partitioner": len}, ("a",), [None, None]),
        ("join", {"left_key": "k", "right_key": "j"}, ("b",), [("k", "b"), ("j",)]),
        ("join", {"left_key": "k", "right_key": "j", "how": "anti"}, ("a",), [("k", "a"), ("j",)]),
    ],
)
def test_what_an_operator_of_two_inputs_looks_at(operator, options, wanted, columns):
    assert READS[operator](options, wanted, SCHEMAS) == columns
