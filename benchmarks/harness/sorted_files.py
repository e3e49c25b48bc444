"""Check files of sorted records: in order within and between files, and the records that went in.

    <venvs>/main/bin/python -m harness.sorted_files FOLDER RECORDS CHECKSUM

Reads raw records (``*.bin``) or Parquet files with the columns of ``harness.records``, in the order of their names.
Prints what is wrong with them; nothing when all is well.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from harness.records import RECORD, Records, checksum, from_columns, in_order

_ROWS = 1_000_000


def blocks(folder: Path) -> Iterator[Records]:
    """The records of all files, some at a time."""
    for path in sorted(folder.rglob("*.bin")):
        with path.open("rb") as file:
            while len(block := np.fromfile(file, RECORD, _ROWS)):
                yield block
    for path in sorted(folder.rglob("*.parquet")):
        yield from _table_blocks(path)


def _table_blocks(path: Path) -> Iterator[Records]:
    import pyarrow.parquet

    for batch in pyarrow.parquet.ParquetFile(path).iter_batches(_ROWS):
        prefix, suffix = (batch.column(name).to_numpy() for name in ("prefix", "suffix"))
        yield from_columns(prefix, suffix, _bytes_of(batch.column("rest")))


def _bytes_of(column: Any) -> memoryview:
    """The values of a column of bytes, one after the other."""
    import pyarrow

    plain = column.cast(pyarrow.large_binary())
    offsets = np.frombuffer(plain.buffers()[1], np.int64)[plain.offset : plain.offset + len(plain) + 1]
    return memoryview(plain.buffers()[2])[offsets[0] : offsets[-1]]


def problem(folder: Path, count: int, expected: int) -> str:
    """What is wrong; nothing when the files hold ``count`` sorted records with this checksum."""
    found = total = 0
    last = None
    for block in blocks(folder):
        if not len(block):
            continue
        edge = block[:1] if last is None else np.concatenate([last, block[:1]])
        if not in_order(edge) or not in_order(block):
            return f"the records from number {found} on are not in order"
        last = block[-1:]
        found += len(block)
        total = (total + checksum(block)) % 2**64
    if found != count:
        return f"there are {found} records, not {count}"
    return "" if total == expected else "the records are not those that went in"


if __name__ == "__main__":
    print(problem(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
