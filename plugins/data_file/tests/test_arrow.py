"""Arrow files and streams: cut at record batches, columns, schemas, what is written."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import feather, ipc

from twister2.spec.data import WriteRequest
from twister2.spec.errors import DataFormatError
from twister2_data_file.arrow_types import told

TABLE = pa.table({"n": list(range(1000)), "s": [f"é{number}" for number in range(1000)]})


def put(path, table=TABLE, *, stream=False, rows=100, **options):
    make = ipc.new_stream if stream else ipc.new_file
    with make(path, table.schema, options=ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=rows)
    return path


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
@pytest.mark.parametrize("n_tasks", [1, 3, 20])
def test_read(files, tmp_path, stream, compression, n_tasks):
    path = put(tmp_path / "x", stream=stream, compression=compression)
    assert files.read(path, format="arrow", n_tasks=n_tasks, batch_rows=70) == TABLE.to_pylist()


@pytest.mark.parametrize("split", [0.001, 0.005, 1])
def test_splits_are_whole_batches_and_add_up(files, tmp_path, split):
    path = put(tmp_path / "x")
    _, plan = files.plan(path, format="arrow", split_mb=split)
    assert sum(each.n_bytes for each in plan.splits) == path.stat().st_size
    assert [each.spec["first"] for each in plan.splits[1:]] == [each.spec["last"] for each in plan.splits[:-1]]
    assert len(plan.splits) == {0.001: 10, 0.005: len(plan.splits), 1: 1}[split]
    assert told(plan.schema) == "n: int64, s: string"


def test_feather_is_arrow(files, tmp_path):
    feather.write_feather(TABLE, str(tmp_path / "x.feather"))
    assert files.read(tmp_path / "x.feather", format="arrow") == TABLE.to_pylist()


@pytest.mark.parametrize("stream", [False, True])
def test_columns_and_predicate(files, tmp_path, stream):
    path = put(tmp_path / "x", stream=stream)
    rows = files.read(path, format="arrow", columns=("s",), predicate=(("n", ">=", 998),))
    assert rows == [{"s": "é998"}, {"s": "é999"}]
    with pytest.raises(DataFormatError, match="no column 'z'"):
        files.plan(path, format="arrow", columns=("z",))


def test_a_packed_stream_is_read_and_a_packed_file_refused(files, tmp_path):
    import gzip

    for stream in (True, False):
        (tmp_path / f"{stream}.gz").write_bytes(gzip.compress(put(tmp_path / "x", stream=stream).read_bytes()))
    assert files.read(tmp_path / "True.gz", format="arrow", n_tasks=3) == TABLE.to_pylist()
    with pytest.raises(DataFormatError, match="an Arrow file that is packed"):
        files.read(tmp_path / "False.gz", format="arrow")


def test_a_packed_stream_that_is_longer_than_all_buffers(files, tmp_path):
    import gzip

    table = pa.table({"n": np.random.default_rng(1).integers(0, 1 << 60, 400_000)})
    put(tmp_path / "x", table, stream=True, rows=200_000)
    (tmp_path / "x.gz").write_bytes(gzip.compress((tmp_path / "x").read_bytes(), 1))
    batches = files.batches(tmp_path / "x.gz", format="arrow", n_tasks=1)
    assert pa.Table.from_batches(batches).equals(table)


def test_files_that_differ(files, tmp_path):
    put(tmp_path / "0")
    put(tmp_path / "1", pa.table({"n": [1.5], "s": ["x"]}))
    with pytest.raises(DataFormatError, match="field 'n' is int64 in the first and double in the second"):
        files.read(tmp_path, format="arrow")
    assert len(files.read(tmp_path, format="arrow", columns=("s",))) == 1001


@pytest.mark.parametrize("stream", [False, True])
def test_restore(files, tmp_path, stream):
    path = put(tmp_path / "x", stream=stream)
    request, plan = files.plan(path, format="arrow", n_tasks=1, batch_rows=70)
    reader = files.backend.open(request, plan.splits)
    seen = 0
    for _ in range(6):
        seen += reader.poll().num_rows
        again = files.backend.open(request, plan.splits)
        again.restore(json.loads(json.dumps(reader.position())))
        assert again.poll().to_pylist()[0]["n"] == seen
        again.close()
    reader.close()


@pytest.mark.parametrize("content", [b"", b"ARROW1\0\0", b"FEA1abc", b"\xff\xff\xff\xff\xff\xff\xff\x7f", b"nothing"])
def test_not_arrow(files, tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DataFormatError, match="not a whole Arrow file or stream"):
        files.read(tmp_path / "x", format="arrow")


@pytest.mark.parametrize("stream", [False, True])
def test_text_that_is_damaged_is_not_walked_over(files, tmp_path, stream):
    data = put(tmp_path / "x", stream=stream).read_bytes()
    (tmp_path / "x").write_bytes(data.replace("é500".encode(), b"A\xa9500"))
    with pytest.raises(DataFormatError, match=r"x: not a whole Arrow"):
        files.read(tmp_path / "x", format="arrow")


@pytest.mark.parametrize("compression", ["none", "lz4", "zstd"])
@pytest.mark.parametrize("stream", [False, True])
def test_write(files, tmp_path, compression, stream):
    rows = TABLE.to_pylist()
    files.write(
        tmp_path / "o", "arrow", [rows[:300], TABLE[300:]], compression=compression, stream=stream, batch_rows=90
    )
    (part,) = (tmp_path / "o").glob("part-00000.*")
    assert part.suffix == (".arrows" if stream else ".arrow")
    assert (ipc.open_stream if stream else ipc.open_file)(part.read_bytes()).read_all() == TABLE
    assert files.read(tmp_path / "o", format="arrow", n_tasks=3) == rows


def test_dictionaries_are_written_plain(files, tmp_path):
    batches = [pa.table({"d": pa.array(values).dictionary_encode()}) for values in (["a", "b"], ["c", "a"])]
    files.write(tmp_path / "o", "arrow", batches, batch_rows=1)
    assert files.read(tmp_path / "o", format="arrow") == [{"d": letter} for letter in "abca"]


@pytest.mark.parametrize("stream", [False, True])
def test_parts_agree_on_types(files, tmp_path, stream):
    parts = [[[(None, 1)]], [[("x", 2.5)]], [np.array([], dtype="i8")]]
    committables = files.write(tmp_path / "o", "arrow", *parts, column_names=["s", "n"], stream=stream)
    assert files.read(tmp_path / "o", format="arrow") == [{"s": None, "n": 1.0}, {"s": "x", "n": 2.5}]
    request = WriteRequest(
        str(tmp_path / "o"), "arrow", 0, 3, 1, "job/1/sink", {"column_names": ["s", "n"], "stream": stream}
    )
    files.backend.commit(request, committables)
    assert len(files.read(tmp_path / "o", format="arrow")) == 2


def test_parts_that_do_not_agree(files, tmp_path):
    with pytest.raises(DataFormatError, match="have different columns"):
        files.write(tmp_path / "o", "arrow", [[("x",)]], [[(1,)]])
    assert not (tmp_path / "o").exists()


def test_no_records_but_columns(files, tmp_path):
    files.write(tmp_path / "o", "arrow", [], column_names=["a"])
    assert files.read(tmp_path / "o", format="arrow") == []
    assert told(files.plan(tmp_path / "o", format="arrow")[1].schema) == "a: null"
