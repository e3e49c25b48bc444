"""Columns of Arrow stand to values as Python says."""

from __future__ import annotations

import datetime
import math
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twister2.spec.relations import OF_MISSING, RELATIONS, holds, satisfying

pa = pytest.importorskip("pyarrow")

DAY, NOON = datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 1, 12)
MIDNIGHT = datetime.datetime(2020, 1, 1)
UTC = datetime.UTC
COLUMNS = {
    **{kind: [0, 1, 2, 127, None] for kind in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32")},
    "uint64": [0, 2**53 + 1, 2**63, 2**64 - 1, None],
    pa.int64(): [-(2**63), -1, 2**53, 2**53 + 1, 2**63 - 1],
    "float16": [0.5, 1.0, None],
    "float32": [0.1, -0.0, 1.0, math.nan, math.inf, None],
    "float64": [0.1, 0.0, -0.0, 1.0, 2.0**53, 2.0**63, math.nan, -math.inf, None],
    "bool": [True, False, None],
    pa.decimal128(10, 2): [Decimal("0.10"), Decimal("1.00"), Decimal("2.50"), None],
    "date32": [DAY, datetime.date(2020, 1, 2), None],
    "date64": [DAY, None],
    pa.timestamp("s"): [MIDNIGHT, NOON, None],
    pa.timestamp("us"): [MIDNIGHT, NOON, NOON.replace(microsecond=5), None],
    pa.timestamp("us", "UTC"): [NOON.replace(tzinfo=UTC), None],
    "string": ["a", "b", "1", "", None],
    "large_string": ["a", None],
    "binary": [b"a", b"", None],
    pa.dictionary("int8", "string"): ["a", "b", None],
    "time64[us]": [datetime.time(1), datetime.time(1, 0, 0, 5), None],
    "duration[us]": [datetime.timedelta(1), None],
    "null": [None, None],
}
NUMBERS = [
    0,
    1,
    -1,
    127,
    300,
    2**53,
    2**53 + 1,
    2**63,
    2**64 - 1,
    2**70,
    True,
    False,
    0.0,
    -0.0,
    0.1,
    0.5,
    1.0,
    1.5,
    1.9,
]
NUMBERS += [2.0**53, 2.0**63, 1e300, math.nan, math.inf, Decimal("0.1"), Decimal(1), Decimal("0.105"), Decimal("1e30")]
OTHERS = [DAY, MIDNIGHT, NOON, NOON.replace(microsecond=5), NOON.replace(tzinfo=UTC), "a", "1", b"a"]
OTHERS += [datetime.time(1), datetime.timedelta(1)]
LISTS = ("in", "not in")
IS_NUMBER = ("int", "uint", "float", "half", "double", "bool", "decimal")


def in_python(column, relation, value):
    test = RELATIONS[relation]
    return [here is not None and bool(test(here, value)) for here in column.to_pylist()]


def check(kind, relation, value, numbers):
    """What is answered, Python answers; what is refused, Python refuses, or the types are of different families."""
    column = pa.array(COLUMNS[kind], kind)
    try:
        found = [bool(one) for one in satisfying(column, relation, value).to_pylist()]
    except TypeError:
        if numbers and str(column.type).startswith(IS_NUMBER):
            with pytest.raises((TypeError, ArithmeticError)):
                in_python(column, relation, value)
        return
    assert found == in_python(column, relation, value)


@pytest.mark.parametrize("kind", COLUMNS, ids=str)
@pytest.mark.parametrize("relation", sorted(set(RELATIONS) - set(LISTS)))
def test_comparisons(kind, relation):
    for value in [*NUMBERS, *OTHERS]:
        check(kind, relation, value, value in NUMBERS)


@pytest.mark.parametrize("kind", COLUMNS, ids=str)
def test_single_values_are_looked_for(kind):
    for value in [*NUMBERS, *OTHERS, None]:
        for relation in LISTS:
            check(kind, relation, [value], value in NUMBERS)


@settings(max_examples=300, deadline=None, database=None)
@given(kind=st.sampled_from(list(COLUMNS)), values=st.lists(st.sampled_from([*NUMBERS, None]), max_size=5))
def test_several_numbers_are_looked_for(kind, values):
    for relation in LISTS:
        check(kind, relation, values, True)


@settings(max_examples=300, deadline=None, database=None)
@given(kind=st.sampled_from(list(COLUMNS)), values=st.lists(st.sampled_from([*OTHERS, None]), max_size=3))
def test_several_others_are_looked_for(kind, values):
    for relation in LISTS:
        check(kind, relation, values, False)


@pytest.mark.parametrize("kind", COLUMNS, ids=str)
def test_missing_values_are_told_from_others(kind):
    column = pa.array(COLUMNS[kind], kind)
    for relation in OF_MISSING:
        test = holds(relation, None)
        assert satisfying(column, relation, None).to_pylist() == [test(here) for here in column.to_pylist()]
    assert [holds("is null", None)(here) for here in (None, 0, math.nan)] == [True, False, False]
    assert [holds("not in", [1])(here) for here in (None, 0, 1, math.nan)] == [False, True, False, True]


def test_missing_values_among_those_of_a_dictionary():
    column = pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 1]), pa.array(["a", None]))
    assert satisfying(column, "is null", None).to_pylist() == [False, True, True, True]
    assert satisfying(column, "is not null", None).to_pylist() == [True, False, False, False]
    assert satisfying(column, "not in", ["b"]).to_pylist() == [True, False, False, False]


def test_columns_in_chunks():
    column = pa.chunked_array([pa.array(["a"]).dictionary_encode(), pa.array(["b", "a"]).dictionary_encode()])
    assert satisfying(column, "==", "a").to_pylist() == [True, False, True]
    assert satisfying(column, "in", ["b"]).to_pylist() == [False, True, False]
    whole = pa.chunked_array([[1], [2]])
    assert satisfying(whole, "==", True).to_pylist() == [True, False]


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize(("kind", "value"), [("int64", "five"), ("string", 5), ("date32", 2**70)])
def test_other_families_are_refused(kind, relation, value):
    with pytest.raises(TypeError):
        satisfying(pa.array(COLUMNS[kind], kind), relation, [value] if relation in LISTS else value)


@pytest.mark.parametrize(
    ("kind", "value"), [("date32", NOON), (pa.timestamp("us"), DAY), ("string", b"a"), ("binary", "a")], ids=str
)
def test_what_python_tells_apart_has_no_order_and_is_not_equal(kind, value):
    column = pa.array(COLUMNS[kind], kind)
    assert not any(satisfying(column, "==", value).to_pylist())
    assert not any(satisfying(column, "in", [value]).to_pylist())
    with pytest.raises(TypeError):
        satisfying(column, "<", value)
