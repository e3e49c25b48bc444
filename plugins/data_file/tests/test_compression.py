"""Packed files: what is unpacked, what is damaged, what is written."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import subprocess
import tracemalloc

import pyarrow as pa
import pytest

from twister2.spec.errors import DataFormatError, UsageError
from twister2.spec.tasks import END
from twister2_data_file.compression import SUFFIXES, Packer, Unpacked


def zstd(data):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


PACK = {"gzip": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zstd": zstd}
TEXT = b"".join(b"%d\n" % number for number in range(100_000))
LINES = TEXT.decode().split()


def packed(data, packing):
    """As the plugin packs."""
    file = io.BytesIO()
    packer = Packer(file, packing)
    packer.write(data)
    packer.finish()
    return file.getvalue()


@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize("block_kb", [1, 256])
def test_read(files, tmp_path, packing, block_kb):
    (tmp_path / f"x{SUFFIXES[packing]}").write_bytes(PACK[packing](TEXT))
    assert files.read(tmp_path, n_tasks=4, block_kb=block_kb) == LINES


@pytest.mark.parametrize("suffix", [".gz", ".gzip", ".bz2", ".xz", ".zst", ".zstd"])
def test_names(files, tmp_path, suffix):
    packing = {".gzip": "gzip", ".zstd": "zstd"} | {each: packing for packing, each in SUFFIXES.items()}
    (tmp_path / f"x.csv{suffix}").write_bytes(PACK[packing[suffix]](b"a,b\n1,2\n"))
    assert files.read(tmp_path, format="csv") == [{"a": 1, "b": 2}]
    (tmp_path / f"x.csv{suffix}").rename(tmp_path / "x.csv")
    with pytest.raises(DataFormatError):
        files.read(tmp_path, format="csv")


@pytest.mark.parametrize("packing", PACK)
def test_members_one_after_another(files, tmp_path, packing):
    pack = PACK[packing]
    data = pack(b"a\nb") + pack(b"") + pack(b"c\n") + packed(TEXT, packing)
    padding = b"\0" * 8 if packing in ("gzip", "xz") else b""
    (tmp_path / f"x{SUFFIXES[packing]}").write_bytes(data + padding)
    assert files.read(tmp_path, n_tasks=3) == ["a", "bc", *LINES]


@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize("what", ["garbage", b"\0" * 5 + b"x"])
def test_what_follows_a_member_must_be_one(files, tmp_path, packing, what):
    what = what.encode() if isinstance(what, str) else what
    (tmp_path / f"x{SUFFIXES[packing]}").write_bytes(PACK[packing](b"a\n") + what)
    with pytest.raises(DataFormatError, match=f"the {packing} archive"):
        files.read(tmp_path)


@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("text", {}),
        ("text", {"on_decode_error": "skip"}),
        ("text", {"on_decode_error": "replace"}),
        ("csv", {}),
        ("json", {"form": "objects"}),
        ("binary", {"record_bytes": 1}),
    ],
)
def test_files_that_are_cut_off_tell_where(files, tmp_path, packing, format, options):
    whole = PACK[packing](TEXT)
    for length in (1, len(whole) // 2, len(whole) - 1):
        path = tmp_path / f"x{SUFFIXES[packing]}"
        path.write_bytes(whole[:length])
        with pytest.raises(DataFormatError, match=f"the {packing} archive is cut off at byte {length}") as caught:
            files.read(path, format=format, **options)
        assert str(path) in str(caught.value)
        assert caught.value.details["offset"] == length


@pytest.mark.parametrize("packing", ["gzip", "bz2", "xz"])
def test_every_damage_is_noticed(packing):
    """A bit that is wrong anywhere; zstd without a checksum cannot tell."""
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    whole = packed(TEXT, packing)
    for _ in range(60):
        at = chance.randrange(len(whole))
        data = bytearray(whole)
        data[at] ^= 1 << chance.randrange(8)
        try:
            content = Unpacked(io.BytesIO(data), packing, "/x").read()
        except DataFormatError:
            continue
        assert content == TEXT, f"seed {seed}, byte {at}"


@pytest.mark.parametrize("packing", PACK)
def test_garbage_is_an_error_or_nothing(packing):
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    for _ in range(200):
        data = chance.randbytes(chance.randrange(1, 300))
        with pytest.raises(DataFormatError, match=f"the {packing} archive") as caught:
            pytest.fail(f"taken for an archive of {len(Unpacked(io.BytesIO(data), packing, '/x').read())}; seed {seed}")
        assert caught.value.details["packing"] == packing


@pytest.mark.parametrize("packing", PACK)
def test_a_bomb_is_unpacked_in_steps(packing):
    bomb = packed(bytes(64 << 20), packing)
    assert len(bomb) < 1 << 17
    file = Unpacked(io.BytesIO(bomb), packing, "/x")
    tracemalloc.start()
    try:
        total = 0
        while data := file.read(1 << 16):
            total += len(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == 64 << 20
    assert peak < 16 << 20


def test_xz_that_wants_much_memory(files, tmp_path):
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 29}]
    (tmp_path / "x.xz").write_bytes(lzma.compress(b"a\n", filters=filters))
    with pytest.raises(DataFormatError, match="Memory usage limit"):
        files.read(tmp_path / "x.xz")


@pytest.mark.parametrize("packing", PACK)
def test_seeking(packing):
    file = Unpacked(io.BytesIO(packed(TEXT, packing)), packing, "/x")
    for offset in (70_000, 70_000, 5, 0, 400_000):
        assert file.seek(offset) == offset
        assert file.read(1) == TEXT[offset : offset + 1]
    assert file.seek(1 << 30) == len(TEXT)
    assert file.read(1) == b""


@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize("format", ["text", "csv", "json", "binary"])
def test_written(files, tmp_path, packing, format):
    records = [b"%05d" % number for number in range(9000)] if format == "binary" else [str(n) for n in range(9000)]
    options = {"compression": packing}
    files.write(tmp_path / "o", format, [records[:5000], records[5000:]], [], [records[:1]], **options)
    ending = {"text": "txt", "csv": "csv", "json": "jsonl", "binary": "bin"}[format] + SUFFIXES[packing]
    assert sorted(path.name for path in (tmp_path / "o").glob("part*")) == [
        f"part-0000{task}.{ending}" for task in (0, 2)
    ]
    how = {"binary": {"record_bytes": 5}, "csv": {"column_types": {"c0": "string"}}, "json": {"form": "objects"}}
    got = files.read(tmp_path / "o", format=format, n_tasks=3, **how.get(format, {}))
    if format == "csv":
        got = [row["c0"] for row in got]
    if format == "binary":
        got = [bytes(record) for record in got]
    assert got == [*records, records[0]]


@pytest.mark.parametrize("packing", PACK)
def test_equal_records_make_equal_bytes(files, tmp_path, packing):
    for name in ("a", "b"):
        files.write(tmp_path / name, "text", [["x"] * 1000], compression=packing)
    one, two = ((tmp_path / name / f"part-00000.txt{SUFFIXES[packing]}").read_bytes() for name in ("a", "b"))
    assert one == two


@pytest.mark.parametrize(("packing", "command"), [("gzip", "gzip"), ("bz2", "bzip2"), ("xz", "xz"), ("zstd", "zstd")])
def test_tools_unpack_what_is_written(tmp_path, packing, command):
    try:
        done = subprocess.run([command, "-dc"], input=packed(TEXT, packing), capture_output=True, timeout=30)
    except FileNotFoundError:
        pytest.skip(f"{command} is not installed")
    assert (done.returncode, done.stdout) == (0, TEXT)


@pytest.mark.parametrize("packing", PACK)
def test_the_name_of_a_single_file_decides(files, tmp_path, packing):
    path = tmp_path / f"x.csv{SUFFIXES[packing]}"
    files.write(path, "csv", [[("a", 1)]], single_file=True)
    assert files.read(path, format="csv") == [{"c0": "a", "c1": 1}]
    files.write(path, "csv", [[("a", 2)]], single_file=True, overwrite=True, compression=packing)
    assert files.read(path, format="csv") == [{"c0": "a", "c1": 2}]
    for name, compression in ((path, "none"), (tmp_path / "x.csv", packing)):
        with pytest.raises(UsageError, match="does not go with the name"):
            files.write(name, "csv", [[("a", 1)]], single_file=True, overwrite=True, compression=compression)


def test_overwrite_replaces_parts_of_other_packings(files, tmp_path):
    files.write(tmp_path / "o", "text", [["1"]], [["2"]], key="job-1")
    files.write(tmp_path / "o", "text", [["3"]], key="job-2", overwrite=True, compression="xz")
    assert files.read(tmp_path / "o") == ["3"]


def test_unknown_packing(files, tmp_path):
    with pytest.raises(UsageError, match="compression"):
        files.write(tmp_path / "o", "text", [["1"]], compression="rar")


@pytest.mark.parametrize("packing", PACK)
def test_abort_leaves_nothing(files, tmp_path, packing):
    from twister2.spec.data import WriteRequest

    request = WriteRequest(str(tmp_path / "o"), "text", 0, 1, 1, "k", {"compression": packing})
    writer = files.backend.create_writer(request)
    writer.write(["x"] * 100_000)
    writer.abort()
    writer.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("packing", PACK)
def test_positions(files, tmp_path, packing):
    (tmp_path / f"x{SUFFIXES[packing]}").write_bytes(PACK[packing](TEXT))
    request, plan = files.plan(tmp_path, n_tasks=1, block_kb=64)
    reader = files.backend.open(request, plan.splits)
    seen = sum(len(reader.poll()) for _ in range(4))
    again = files.backend.open(request, plan.splits)
    again.restore(reader.position())
    reader.close()
    assert [line for batch in iter(again.poll, END) for line in batch] == LINES[seen:]
    again.close()
