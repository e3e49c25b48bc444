"""What writers accept, where output goes, what is replaced."""

from __future__ import annotations

import json
import os

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from twister2.spec.data import WriteRequest
from twister2.spec.errors import DataAccessError, DataFormatError, UsageError
from twister2_data_file.lines import TextLines

PAIRS = [("a", 1), ("b", 2)]
FORMS = {
    "tuples": PAIRS,
    "lists": [list(pair) for pair in PAIRS],
    "dicts": [{"word": word, "n": n} for word, n in PAIRS],
    "batch": pa.RecordBatch.from_pydict({"word": ["a", "b"], "n": [1, 2]}),
    "table": pa.table({"word": ["a", "b"], "n": [1, 2]}),
    "structured array": np.array(PAIRS, dtype=[("word", "U1"), ("n", "i8")]),
}


def names(folder):
    return sorted(os.listdir(folder))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("format", ["csv", "parquet"])
def test_forms_of_batches(files, tmp_path, form, format):
    files.write(tmp_path / "out", format, [FORMS[form], FORMS[form]], column_names=("word", "n"))
    expected = [{"word": word, "n": n} for word, n in PAIRS]
    assert files.read(tmp_path / "out", format=format) == expected * 2


@pytest.mark.parametrize(
    ("batch", "rows"),
    [
        ([1, 2], [{"c0": 1}, {"c0": 2}]),
        (np.arange(4.0).reshape(2, 2), [{"c0": 0.0, "c1": 1.0}, {"c0": 2.0, "c1": 3.0}]),
        (np.arange(2), [{"c0": 0}, {"c0": 1}]),
        ([{"x": 1}, {"x": None}], [{"x": 1}, {"x": None}]),
    ],
)
def test_names_without_names(files, tmp_path, batch, rows):
    files.write(tmp_path / "out", "parquet", [batch])
    assert files.read(tmp_path / "out", format="parquet") == rows


def test_text_lines_and_objects(files, tmp_path):
    files.write(tmp_path / "out", "text", [["a", 1, ("b", 2)], TextLines("x\ny", 3), np.array([7]), []])
    assert files.read(tmp_path / "out") == ["a", "1", "('b', 2)", "x", "y", "7"]


def test_types_are_fixed_by_option_or_first_batch(files, tmp_path):
    files.write(tmp_path / "a", "parquet", [[(1,)]], [[(1.5,)]], column_types={"c0": "double"})
    assert files.read(tmp_path / "a", format="parquet") == [{"c0": 1.0}, {"c0": 1.5}]
    with pytest.raises(DataFormatError, match="do not fit the columns"):
        files.write(tmp_path / "b", "parquet", [[(1,)], [("text",)]])
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("batches", "told"),
    [
        ([[(1, 2), (3,)]], "different number"),
        ([[(1, 2)], [(1, 2, 3)]], "3 values"),
        ([[{"a": 1}], [{"b": 1}]], "'b'"),
        ([np.zeros((2, 2, 2))], "shape"),
        ([pa.table({"a": [1]}), pa.table({"a": ["x"]})], "do not fit"),
    ],
)
def test_records_that_do_not_fit(files, tmp_path, batches, told):
    with pytest.raises(DataFormatError) as caught:
        files.write(tmp_path / "out", "csv", batches)
    assert told in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_folder_of_parts_and_marker(files, tmp_path):
    committables = files.write(tmp_path / "out", "csv", [[(1,)]], [], [[(2,)], [(3,)]])
    assert names(tmp_path / "out") == ["_SUCCESS", "part-00000.csv", "part-00002.csv"]
    marker = json.loads((tmp_path / "out" / "_SUCCESS").read_text())
    assert marker == {"key": "job/1/sink", "files": ["part-00000.csv", "part-00002.csv"]}
    assert [part["records"] for part in committables] == [1, 2]
    assert [part["bytes"] for part in committables] == [7, 9]


def test_empty_output_can_be_read(files, tmp_path):
    files.write(tmp_path / "out", "parquet", [], [])
    assert names(tmp_path / "out") == ["_SUCCESS"]
    assert files.read(tmp_path / "out", format="parquet") == []


@pytest.mark.parametrize("single", [False, True])
def test_abort_keeps_folders_that_were_there(files, tmp_path, single):
    uri = str(tmp_path / "a.txt" if single else tmp_path)
    writer = files.backend.create_writer(WriteRequest(uri, "text", 0, 1, 1, "k", {"single_file": single}))
    writer.write(["x"])
    assert names(tmp_path) != []
    writer.abort()
    assert names(tmp_path) == []


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
@pytest.mark.parametrize("there", [False, True])
def test_tasks_that_fail_together_leave_no_folder_that_they_made(files, tmp_path, order, there):
    folder = tmp_path / "out"
    if there:
        folder.mkdir()
    made = [files.backend.create_writer(WriteRequest(str(folder), "text", task, 3, 1, "k", {})) for task in range(3)]
    for writer in made:
        writer.write(["x"])
    for task in order:
        made[task].abort()
        made[task].close()
    assert list(tmp_path.rglob("*")) == ([folder] if there else [])


@pytest.mark.parametrize("format", ["csv", "parquet", "text"])
def test_single_file(files, tmp_path, format):
    target = tmp_path / "new" / f"counts.{format}"
    files.write(target, format, [[("a", 1)]], single_file=True)
    assert names(target.parent) == [target.name]
    expected = ["('a', 1)"] if format == "text" else [{"c0": "a", "c1": 1}]
    assert files.read(target, format=format) == expected


def test_single_file_without_records(files, tmp_path):
    files.write(tmp_path / "a.csv", "csv", [], single_file=True, column_names=["word", "n"])
    assert (tmp_path / "a.csv").read_text() == '"word","n"\n'
    files.write(tmp_path / "a.parquet", "parquet", [], single_file=True, column_names=["word"])
    assert parquet.read_table(tmp_path / "a.parquet").to_pydict() == {"word": []}


def test_single_file_takes_one_task(files, tmp_path):
    with pytest.raises(UsageError, match="2 tasks"):
        files.write(tmp_path / "a.csv", "csv", [[(1,)]], [[(2,)]], single_file=True)


def test_single_file_that_exists(files, tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old\n")
    with pytest.raises(DataAccessError, match=r"a\.txt"):
        files.write(target, "text", [["new"]], single_file=True)
    with pytest.raises(DataAccessError, match=r"a\.txt"):
        files.write(target, "text", [["new"]], single_file=True, attempt=2)
    assert target.read_text() == "old\n"
    files.write(target, "text", [["new"]], single_file=True, overwrite=True)
    assert target.read_text() == "new\n"
    files.write(target, "text", [["new"]], single_file=True, attempt=2)  # the same step again, after a crash
    assert target.read_text() == "new\n"
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataAccessError, match="it is a folder"):
        files.write(tmp_path / "folder", "text", [["new"]], single_file=True, overwrite=True)


def test_folder_that_is_not_empty(files, tmp_path):
    (tmp_path / "precious.doc").write_text("mine")
    with pytest.raises(DataAccessError, match="cannot write") as caught:
        files.write(tmp_path, "text", [["x"]])
    assert "precious.doc" in str(caught.value)
    with pytest.raises(DataAccessError, match="cannot write"):
        files.write(tmp_path / "precious.doc", "text", [["x"]])


def test_overwrite_replaces_parts_and_nothing_else(files, tmp_path):
    files.write(tmp_path, "text", [["1"]], [["2"]], [["3"]], key="job-1")
    (tmp_path / "precious.doc").write_text("mine")
    files.write(tmp_path, "text", [["new"]], key="job-2", overwrite=True)
    assert names(tmp_path) == ["_SUCCESS", "part-00000.txt", "precious.doc"]
    assert (tmp_path / "part-00000.txt").read_text() == "new\n"


def test_overwrite_harms_nothing_before_the_commit(files, tmp_path):
    files.write(tmp_path, "text", [["old"]], key="job-1")
    files.write(tmp_path, "text", [["new"]], key="job-2", overwrite=True, commit=False)
    assert files.read(tmp_path) == ["old"]


def test_lost_part_is_an_error(files, tmp_path):
    committables = files.write(tmp_path / "out", "text", [["x"]], commit=False)
    os.unlink(committables[0]["source"])
    with pytest.raises(DataAccessError, match="is lost"):
        files.backend.commit(WriteRequest(str(tmp_path / "out"), "text", 0, 1, 1, "job/1/sink"), committables)


def test_half_done_commit_is_completed(files, tmp_path):
    committables = files.write(tmp_path, "text", [["1"]], [["2"]], commit=False)
    os.replace(committables[0]["source"], committables[0]["target"])
    files.backend.commit(WriteRequest(str(tmp_path), "text", 0, 2, 1, "job/1/sink"), committables)
    assert files.read(tmp_path) == ["1", "2"]
    assert names(tmp_path) == ["_SUCCESS", "part-00000.txt", "part-00001.txt"]


def test_row_groups(files, tmp_path):
    files.write(tmp_path / "a", "parquet", [list(range(250))] * 4, row_group_rows=300, compression="zstd")
    metadata = parquet.read_metadata(tmp_path / "a" / "part-00000.parquet")
    assert metadata.num_rows == 1000
    assert metadata.num_row_groups >= 3
    assert metadata.row_group(0).column(0).compression == "ZSTD"


def test_csv_options(files, tmp_path):
    files.write(tmp_path / "a.csv", "csv", [[(1, 2)]], single_file=True, header=False, delimiter="\t")
    assert (tmp_path / "a.csv").read_text() == "1\t2\n"


def test_write_options_are_checked(files, tmp_path):
    with pytest.raises(UsageError, match="did you mean 'overwrite'"):
        files.write(tmp_path / "a", "text", [["x"]], overwrit=True)
    with pytest.raises(UsageError, match="compression"):
        files.write(tmp_path / "a", "parquet", [[1]], compression="rar")
    with pytest.raises(UsageError, match="delimiter"):
        files.write(tmp_path / "a", "csv", [[1]], delimiter=",,")
    with pytest.raises(UsageError, match="orc"):
        files.write(tmp_path / "a", "orc", [[1]])


def test_the_remedy_fits_what_is_in_the_way(files, tmp_path):
    (tmp_path / "file").write_text("old")
    with pytest.raises(DataAccessError) as caught:
        files.write(tmp_path / "file", "text", [["x"]], overwrite=True)
    assert "single_file=True" in caught.value.remedy
    assert "set overwrite" not in caught.value.remedy
    with pytest.raises(DataAccessError, match="overwrite=True"):
        files.write(tmp_path / "file", "text", [["x"]], single_file=True)
    files.write(tmp_path / "file", "text", [["x"]], single_file=True, overwrite=True)
    assert (tmp_path / "file").read_text() == "x\n"
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataAccessError) as caught:
        files.write(tmp_path / "folder", "text", [["x"]], single_file=True, overwrite=True)
    assert "set overwrite" not in caught.value.remedy
