"""Properties over formats, packings, sizes and splits; and files of which nothing is as it should be."""

from __future__ import annotations

import io
import random
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import ipc, parquet

from twister2.spec.errors import DataFormatError
from twister2_data_file.compression import Packer

PACKINGS = ["none", "gzip", "bz2", "xz", "zstd"]

_text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
_line = _text.map(lambda line: line.replace("\r", "").replace("\n", ""))
_integer = st.integers(-(2**63), 2**63 - 1)
_number = st.floats(allow_nan=False, allow_infinity=False)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | _number | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=8,
)
_row = st.fixed_dictionaries({"i": _integer, "f": _number, "s": _text, "l": st.lists(_integer, min_size=1, max_size=3)})
"""Of these the first one shows all types."""

RECORDS = {
    "text": _line,
    "csv": st.fixed_dictionaries({"i": _integer, "s": _text.map(lambda text: text.replace("\r", ""))}),
    "json": _row,
    "objects": _json,
    "parquet": _row,
    "arrow": _row,
    "arrow stream": _row,
    "binary": st.tuples(st.binary(min_size=3, max_size=3).filter(lambda key: key[-1]), _integer),
}
BINARY = [("key", "S3"), ("value", "<i8")]


def _options(form, packing, chance):
    """Format, options of writing, options of reading."""
    block = {"block_kb": chance.choice([1, 2, 64])}
    rows = {"batch_rows": chance.choice([1, 3, 1000])}
    if form in ("parquet", "arrow", "arrow stream"):
        within = {"none": "none", "zstd": "zstd"}.get(packing, "gzip" if form == "parquet" else "lz4")
        if form == "parquet":
            return "parquet", {"compression": within, "row_group_rows": chance.choice([1, 7, 1000])}, rows
        return "arrow", {"compression": within, "stream": form == "arrow stream", **rows}, rows
    if form == "binary":
        return "binary", {"compression": packing, "dtype": BINARY}, {"dtype": BINARY, "batch_mb": 1e-4}
    if form == "objects":
        return "json", {"compression": packing}, {"form": "objects", **block}
    if form == "csv":
        types = {"column_types": {"i": "int64", "s": "string"}, "newlines_in_values": chance.random() < 0.5}
        return "csv", {"compression": packing, "column_names": ["i", "s"]}, {**types, **block}
    return form, {"compression": packing}, block


@pytest.mark.parametrize("form", RECORDS)
def test_what_is_written_is_read(files, form):
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.lists(st.lists(RECORDS[form], max_size=40), min_size=1, max_size=3),
        st.sampled_from(PACKINGS),
        st.integers(1, 9),
        st.sampled_from([1, 30, 300, 1 << 20]),
        st.randoms(use_true_random=False),
    )
    def check(parts, packing, n_tasks, split, chance):
        format, writing, reading = _options(form, packing, chance)
        if reading.get("newlines_in_values") is False:
            parts = [[{**row, "s": row["s"].replace("\n", "")} for row in part] for part in parts]
        with tempfile.TemporaryDirectory(prefix="t2-data-") as folder:
            batches = [[part[: len(part) // 2], part[len(part) // 2 :]] for part in parts]
            files.write(Path(folder) / "o", format, *batches, **writing)
            options = {**reading, "split_mb": split / (1 << 20), "n_tasks": n_tasks}
            got = files.read(Path(folder) / "o", format=format, **options)
        if form == "binary":
            got = [record.item() for record in got]
        assert got == [record for part in parts for record in part]

    check()


def _sample(form):
    table = pa.table(
        {"i": list(range(200)), "s": [f"é{n}" for n in range(200)], "l": [[n] * (n % 3) for n in range(200)]}
    )
    if form in ("arrow", "stream"):
        sink = pa.BufferOutputStream()
        with (ipc.new_file if form == "arrow" else ipc.new_stream)(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=50)
        return sink.getvalue().to_pybytes()
    if form == "parquet":
        sink = pa.BufferOutputStream()
        parquet.write_table(table, sink, row_group_size=50)
        return sink.getvalue().to_pybytes()
    if form == "binary":
        return np.arange(50).tobytes()
    if form == "csv":
        return b"i,s\n" + b"".join(b'%d,"x%d"\n' % (n, n) for n in range(100))
    return "".join(f'{{"i":{n},"s":"é{n}","l":[{n},null]}}\n' for n in range(60)).encode()


def _damaged(data, chance):
    data = bytearray(data)
    kind = chance.randrange(4)
    if kind == 0:
        del data[chance.randrange(len(data)) :]
    elif kind == 1:
        for _ in range(chance.choice([1, 2, 20])):
            data[chance.randrange(len(data))] = chance.choice([0, 255, chance.randrange(256), *b'{}[]",:n\n '])
    elif kind == 2:
        at = chance.randrange(len(data))
        data[at:at] = chance.choice([chance.randbytes(20), b"null\n", b"{}", b"\n[", b'"', b"\n\nnull"])
    else:
        data = bytearray(chance.randbytes(chance.randrange(1, 200)))
    return bytes(data)


_DAMAGED = [("arrow", "none"), ("parquet", "none")] + [
    (form, packing)
    for form in ("json", "objects", "csv", "text", "stream", "binary")
    for packing in ("none", "gzip", "zstd")
]


@pytest.mark.parametrize(("form", "packing"), _DAMAGED)
def test_damaged_files_give_an_answer_or_an_error(files, tmp_path, form, packing):
    """And never anything else: no other exception, no crash, no end that does not come."""
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    format = {"objects": "json", "stream": "arrow"}.get(form, form)
    options = {"objects": {"form": "objects"}, "binary": {"dtype": "<i8"}}.get(form, {})
    path = tmp_path / ("x" + {"none": "", "gzip": ".gz", "zstd": ".zst"}[packing])
    for _ in range(80):
        data = _damaged(_sample(form), chance)
        if packing != "none":
            packed = io.BytesIO()
            packer = Packer(packed, packing)
            packer.write(data)
            packer.finish()
            data = _damaged(packed.getvalue(), chance) if chance.random() < 0.3 else packed.getvalue()
        path.write_bytes(data)
        try:
            files.read(path, format=format, n_tasks=2, **options)
        except DataFormatError as error:
            named = str(path) in str(error)
        except BaseException:
            print(f"seed {seed}")
            raise
        else:
            named = True
        assert named, f"seed {seed}"
