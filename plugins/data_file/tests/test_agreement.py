"""Parts whose tasks found other types: brought together, or refused before anything is visible."""

from __future__ import annotations

import datetime
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from twister2.spec.data import WriteRequest
from twister2.spec.errors import DataFormatError

BOTH = pytest.mark.parametrize("format", ["csv", "parquet"])


@BOTH
@pytest.mark.parametrize(
    "parts",
    [
        [[{"a": 1, "s": None}], [{"a": 2, "s": "x"}]],
        [[{"a": 1, "s": "x"}], [{"a": None, "s": "y"}]],
        [[{"a": 1}], [{"a": 2.5}], [{"a": None}]],
        [[{"a": None}], [{"a": None}], [{"a": 2}]],
    ],
)
def test_types_that_go_together(files, tmp_path, format, parts):
    committables = files.write(tmp_path / "out", format, *[[part] for part in parts])
    expected = [dict(row) for part in parts for row in part]
    for row in expected:
        if format == "csv" and "s" in row:
            row["s"] = row["s"] or ""  # CSV has no None in text
    assert files.read(tmp_path / "out", format=format) == expected
    assert not any(name.startswith(".") for name in os.listdir(tmp_path / "out"))
    files.backend.commit(WriteRequest(str(tmp_path / "out"), format, 0, len(parts), 1, "job/1/sink"), committables)
    assert files.read(tmp_path / "out", format=format) == expected


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.lists(st.sampled_from([None, 1, -7, 0.5]), min_size=1, max_size=4), min_size=1, max_size=5))
def test_numbers_of_all_parts_are_read_back(files, tmp_path_factory, parts):
    folder = tmp_path_factory.mktemp("out")
    files.write(folder, "parquet", *[[[(value,)] for value in part] for part in parts])
    assert [row["c0"] for row in files.read(folder, format="parquet")] == [value for part in parts for value in part]


def test_nested_types(files, tmp_path):
    parts = [[{"a": [], "b": {"c": None}}], [{"a": [1], "b": {"c": "x"}}]]
    files.write(tmp_path / "out", "parquet", *[[part] for part in parts])
    assert files.read(tmp_path / "out", format="parquet") == [row for part in parts for row in part]


def test_columns_in_another_order(files, tmp_path):
    parts = [[[{"a": 1, "b": "x"}]], [[{"b": "y", "a": 2}]]]
    files.write(tmp_path / "out", "parquet", *parts)
    assert [tuple(row.values()) for row in files.read(tmp_path / "out", format="parquet")] == [(1, "x"), (2, "y")]
    with pytest.raises(DataFormatError, match="another order"):
        files.write(tmp_path / "csv", "csv", *parts)
    files.write(tmp_path / "csv", "csv", *parts, column_names=("a", "b"))
    assert files.read(tmp_path / "csv", format="csv") == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]


@BOTH
@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ([[{"a": 1}], [{"a": None}], [{"a": "x"}]], "'a' is int64 in the first and string in the second"),
        ([[{"a": 1}], [{"b": 2}]], "'a' is missing in the second"),
        ([[b"x"], ["x"]], "'c0' is binary"),
    ],
)
def test_types_that_do_not_go_together(files, tmp_path, format, parts, told):
    with pytest.raises(DataFormatError) as caught:
        files.write(tmp_path / "out", format, *[[part] for part in parts])
    assert told in str(caught.value)
    assert "column_types" in str(caught.value)
    assert f"task {len(parts) - 1}" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_integer_that_is_not_exact_as_floating_point(files, tmp_path):
    with pytest.raises(DataFormatError, match="task 0") as caught:
        files.write(tmp_path / "out", "parquet", [[(2**53 + 1,)]], [[(0.5,)]])
    assert str(2**53 + 1) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@BOTH
def test_types_widen_from_batch_to_batch(files, tmp_path, format):
    files.write(tmp_path / "out", format, [[{"a": None, "n": 1}], [{"a": "x", "n": 2}], [{"a": "y", "n": 0.5}]])
    rows = files.read(tmp_path / "out", format=format)
    assert [row["n"] for row in rows] == [1, 2, 0.5]
    assert [row["a"] or None for row in rows] == [None, "x", "y"]


def test_fractions_are_not_cut_off(files, tmp_path):
    for batches in ([[(0.5,)]], [[(1,)], [(0.5,)]]):
        with pytest.raises(DataFormatError, match="do not fit"):
            files.write(tmp_path / "out", "parquet", batches, column_types={"c0": "int64"})
    files.write(tmp_path / "out", "parquet", [[(1,)], [(2.0,)]], column_types={"c0": "int64"})
    assert files.read(tmp_path / "out", format="parquet") == [{"c0": 1}, {"c0": 2}]


def test_times_do_not_become_dates(files, tmp_path):
    day = datetime.date(2024, 1, 2)
    with pytest.raises(DataFormatError, match="do not fit"):
        files.write(tmp_path / "out", "parquet", [[(day,)], [(datetime.datetime(2024, 1, 2, 3, 4),)]])
    files.write(tmp_path / "out", "parquet", [[(day,)], [(day,)]])
    assert files.read(tmp_path / "out", format="parquet") == [{"c0": day}, {"c0": day}]


def test_types_that_are_written_stay(files, tmp_path):
    with pytest.raises(DataFormatError, match="do not fit"):
        files.write(tmp_path / "out", "parquet", [[(1,)], [(0.5,)]], row_group_rows=1)
    assert list(tmp_path.iterdir()) == []


def test_a_commit_that_died_between_its_parts(files, tmp_path):
    committables = files.write(tmp_path / "out", "parquet", [[(1,)]], [[(0.5,)]], commit=False)
    request = WriteRequest(str(tmp_path / "out"), "parquet", 0, 2, 1, "job/1/sink")
    real, moved = os.replace, []

    def dying(source, target):
        if len(moved) == 2:  # the rewritten part at its source, and then at its target
            raise KeyboardInterrupt
        real(source, target)
        moved.append(target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", dying)
        with pytest.raises(KeyboardInterrupt):
            files.backend.commit(request, committables)
    files.backend.commit(request, committables)
    assert files.read(tmp_path / "out", format="parquet") == [{"c0": 1.0}, {"c0": 0.5}]


@BOTH
def test_no_records_but_names(files, tmp_path, format):
    files.write(tmp_path / "out", format, [], [], column_names=["word", "n"], column_types={"n": "int64"})
    assert sorted(os.listdir(tmp_path / "out")) == ["_SUCCESS", f"part-00000.{format}"]
    assert files.read(tmp_path / "out", format=format) == []
    _, plan = files.plan(tmp_path / "out", format=format)
    assert plan.schema.names[0] == "word"
    files.write(tmp_path / "some", format, [], [[("a", 1)]], column_names=["word", "n"])
    assert files.read(tmp_path / "some", format=format) == [{"word": "a", "n": 1}]
    if format == "parquet":
        assert str(parquet.read_schema(tmp_path / "some" / "part-00000.parquet").field("word").type) == "string"
