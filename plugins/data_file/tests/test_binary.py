"""Binary records: cut between records, partial ones told with their place, what is written."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pyarrow as pa
import pytest

from twister2.spec.errors import DataFormatError, UsageError
from twister2.spec.tasks import END

KINDS = ["<i8", ">i4", "u1", "<f8", "S5", "V7", "3f4", [("key", "S3"), ("value", "<i8")], "datetime64[ms]", "?"]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("split", [1, 3, 16, 1000])
def test_read(files, tmp_path, kind, split):
    size = np.dtype(kind).itemsize
    data = np.random.default_rng(1).integers(0, 2, 997 * size, dtype="u1").tobytes()
    (tmp_path / "x").write_bytes(data)
    batches = files.batches(
        tmp_path / "x", format="binary", dtype=kind, split_mb=split / 1024, n_tasks=3, batch_mb=1e-3
    )
    assert b"".join(batch.tobytes() for batch in batches) == data
    assert {batch.dtype for batch in batches} == {np.dtype(kind).base}
    assert not any(batch.flags.writeable for batch in batches)


def test_record_bytes(files, tmp_path):
    (tmp_path / "x").write_bytes(b"aaabbbccc")
    records = files.read(tmp_path / "x", format="binary", record_bytes=3)
    assert [bytes(record) for record in records] == [b"aaa", b"bbb", b"ccc"]


def test_records_larger_than_splits_and_batches(files, tmp_path):
    data = bytes(range(250)) * 12_000
    (tmp_path / "x").write_bytes(data)
    options = {"record_bytes": 1_000_000, "split_mb": 0.1, "batch_mb": 0.1}
    _, plan = files.plan(tmp_path / "x", format="binary", **options)
    assert [split.n_bytes for split in plan.splits] == [1_000_000] * 3
    assert b"".join(map(bytes, files.read(tmp_path / "x", format="binary", n_tasks=4, **options))) == data


@pytest.mark.parametrize("n_bytes", [1, 7, 8001])
def test_partial_record_of_a_file(files, tmp_path, n_bytes):
    (tmp_path / "fine").write_bytes(bytes(80))
    (tmp_path / "x").write_bytes(bytes(n_bytes))
    with pytest.raises(DataFormatError, match="in the middle of a record") as caught:
        files.plan(tmp_path, format="binary", dtype="<i8")
    assert caught.value.details["offset"] == n_bytes // 8 * 8
    assert f"{tmp_path / 'x'}, byte {n_bytes // 8 * 8}" in str(caught.value)


def test_partial_record_of_a_packed_file(files, tmp_path):
    (tmp_path / "x.gz").write_bytes(gzip.compress(bytes(1_000_003)))
    with pytest.raises(DataFormatError, match="in the middle of a record: 3 bytes at byte 1000000"):
        files.read(tmp_path / "x.gz", format="binary", dtype="<i8")


def test_a_file_that_shrinks_or_grows(files, tmp_path):
    (tmp_path / "x").write_bytes(bytes(800))
    request, plan = files.plan(tmp_path / "x", format="binary", dtype="<i8", n_tasks=1)
    (tmp_path / "x").write_bytes(bytes(803))
    assert len(files.backend.open(request, plan.splits).poll()) == 100
    for left, says in ((795, "in the middle"), (0, "before the records")):
        (tmp_path / "x").write_bytes(bytes(left))
        reader = files.backend.open(request, plan.splits)
        with pytest.raises(DataFormatError, match=says):
            list(iter(reader.poll, END))
        reader.close()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"record_bytes": 8, "dtype": "<i8"},
        {"record_bytes": 0},
        {"record_bytes": 1.5},
        {"dtype": "object"},
        {"dtype": "S"},
        {"dtype": "nonsense"},
        {"dtype": [("a",)]},
        {"dtype": 3},
        {"batch_mb": 0, "record_bytes": 1},
    ],
    ids=str,
)
def test_options_that_are_wrong(files, tmp_path, options):
    (tmp_path / "x").write_bytes(bytes(8))
    with pytest.raises(UsageError):
        files.plan(tmp_path / "x", format="binary", **options)


def test_records_are_whole(files, tmp_path):
    (tmp_path / "x").write_bytes(bytes(8))
    for asked in ({"columns": ("a",)}, {"predicate": (("a", ">", 1),)}):
        with pytest.raises(UsageError, match="no columns"):
            files.plan(tmp_path / "x", format="binary", record_bytes=8, **asked)


def test_restore(files, tmp_path):
    (tmp_path / "x").write_bytes(np.arange(1000).tobytes())
    request, plan = files.plan(tmp_path / "x", format="binary", dtype="<i8", n_tasks=1, batch_mb=0.001)
    reader = files.backend.open(request, plan.splits)
    seen = sum(len(reader.poll()) for _ in range(3))
    again = files.backend.open(request, plan.splits)
    again.restore(json.loads(json.dumps(reader.position())))
    reader.close()
    assert again.poll()[0] == seen
    again.close()


WRITTEN = {
    "array": ([np.arange(5)], {}, np.arange(5).tobytes()),
    "rows of an array": ([np.arange(6.0).reshape(3, 2)], {}, np.arange(6.0).tobytes()),
    "every second": ([np.arange(6)[::2]], {}, np.arange(0, 6, 2).tobytes()),
    "list of numpy values": ([list(np.arange(3)), [np.int64(7)]], {}, np.array([0, 1, 2, 7]).tobytes()),
    "bytes": ([[b"abc", bytearray(b"def")], [memoryview(b"ghi")]], {}, b"abcdefghi"),
    "bytes and arrays of them": ([[b"abc"], np.frombuffer(b"defghi", "V3")], {}, b"abcdefghi"),
    "numbers": ([[1, 2], [3]], {"dtype": ">i2"}, np.array([1, 2, 3], ">i2").tobytes()),
    "numbers as floats": ([[1, 2.5]], {"dtype": "<f4"}, np.array([1, 2.5], "f4").tobytes()),
    "tuples": ([[(b"ab", 1), (b"c", 2)]], {"dtype": [("k", "S2"), ("v", "<i4")]}, b"ab\1\0\0\0c\0\2\0\0\0"),
    "lists": ([[[1, 2], [3, 4]]], {"dtype": "2i1"}, b"\1\2\3\4"),
    "smaller arrays": ([np.array([1, 2], "i2")], {"dtype": "<i8"}, np.array([1, 2]).tobytes()),
    "arrow": ([pa.table({"b": [b"abc", b"def"]})], {}, b"abcdef"),
    "any array as bytes": ([np.array([1, 2], "<i2")], {"record_bytes": 2}, b"\1\0\2\0"),
}


@pytest.mark.parametrize("form", WRITTEN)
def test_written(files, tmp_path, form):
    batches, options, expected = WRITTEN[form]
    files.write(tmp_path / "o", "binary", batches, **options)
    assert (tmp_path / "o" / "part-00000.bin").read_bytes() == expected


REFUSED = {
    "other size": ([[b"abc"], [b"de"]], {}),
    "in a batch": ([[b"abc", b"de"]], {}),
    "no bytes at all": ([[b""]], {}),
    "numbers without a type": ([[1]], {}),
    "fractions": ([[1.5]], {"dtype": "i8"}),
    "too large": ([[300]], {"dtype": "u1"}),
    "far too large": ([[10**30]], {"dtype": "i8"}),
    "larger arrays": ([np.array([1])], {"dtype": "i4"}),
    "another kind": ([np.array([1]), np.array([1.5])], {}),
    "text": ([["5"]], {"dtype": "i8"}),
    "None": ([[None, 1]], {"dtype": "f8"}),
    "None alone": ([[None]], {"dtype": "i8"}),
    "cut text": ([[b"abcd"]], {"dtype": "S3"}),
    "tuple too short": ([[(1,)]], {"dtype": [("a", "i1"), ("b", "i1")]}),
    "no tuple": ([[5]], {"dtype": [("a", "i1"), ("b", "i1")]}),
    "objects": ([np.array(["x"], object)], {}),
    "other shape": ([np.ones((2, 2)), np.ones((2, 3))], {}),
    "bytes of another size": ([[b"abc"]], {"record_bytes": 2}),
    "two columns": ([pa.table({"a": [b"x"], "b": [b"y"]})], {}),
}


@pytest.mark.parametrize("form", REFUSED)
def test_refused(files, tmp_path, form):
    batches, options = REFUSED[form]
    with pytest.raises(DataFormatError, match="do not fit the binary records"):
        files.write(tmp_path / "o", "binary", batches, **options)
    assert list(tmp_path.iterdir()) == []


def test_both_options_are_refused(files, tmp_path):
    with pytest.raises(UsageError, match="record_bytes and dtype"):
        files.write(tmp_path / "o", "binary", [[b"x"]], record_bytes=1, dtype="S1")


def test_parts_agree(files, tmp_path):
    with pytest.raises(DataFormatError, match="different records: 8 bytes of int64 and 8 bytes of float64") as caught:
        files.write(tmp_path / "o", "binary", [np.arange(2)], [], [np.ones(2)])
    assert "task 2" in str(caught.value)
    assert not (tmp_path / "o").exists()
    files.write(tmp_path / "o", "binary", [np.arange(2)], [], [np.arange(2)])
    assert files.read(tmp_path / "o", format="binary", dtype="<i8") == [0, 1, 0, 1]
