from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from harness.records import RECORD, Records, by_range, checksum, columns, from_columns, in_order, order
from harness.sorted_files import problem
from hypothesis import given, settings
from hypothesis import strategies as st

KEYS = st.lists(
    st.binary(min_size=10, max_size=10) | st.sampled_from([b"same key  ", b"same key\0\0", b"same key\xff\xff"])
)


def records(keys: list[bytes]) -> Records:
    """Records with these keys, each with a number behind it."""
    return np.array([(key + number.to_bytes(90, "big")) for number, key in enumerate(keys)], "V100").view(RECORD)


def key_of(record: np.void) -> bytes:
    return record.tobytes()[:10]


@given(keys=KEYS)
@settings(max_examples=50, deadline=None)
def test_records_are_ordered_as_the_bytes_of_their_keys(keys: list[bytes]) -> None:
    made = records(keys)
    ordered = made.take(order(made))
    assert list(map(key_of, ordered)) == sorted(keys)
    assert in_order(made) == (keys == sorted(keys))
    assert checksum(ordered) == checksum(made)


@given(keys=KEYS, n=st.integers(1, 5))
@settings(max_examples=50, deadline=None)
def test_ranges_are_all_records_and_follow_one_another(keys: list[bytes], n: int) -> None:
    ranges = [sorted(map(key_of, some)) for some in by_range(records(keys), n)]
    assert len(ranges) == n
    assert [key for some in ranges for key in some] == sorted(keys)


def test_a_changed_byte_changes_the_checksum() -> None:
    made = records([b"0123456789"] * 3)
    sums = {checksum(made)}
    for place in range(0, 300, 7):
        changed = made.view("u1").copy()
        changed[place] ^= 1
        sums.add(checksum(changed.view(RECORD)))
    assert len(sums) == 1 + len(range(0, 300, 7))


def test_columns_have_the_order_of_the_keys_and_come_back() -> None:
    made = records([b"\xff" * 10, b"\0" * 10, b"\x7f" + b"\xff" * 9, b"\x80" + b"\0" * 9])
    table = columns(made)
    by_columns = sorted(zip(table["prefix"].tolist(), table["suffix"].tolist(), map(key_of, made), strict=True))
    assert [key for _, _, key in by_columns] == sorted(map(key_of, made))
    back = from_columns(table["prefix"], table["suffix"], table["rest"].tobytes())
    assert back.tobytes() == made.tobytes()


def written(folder: Path, parts: list[Records], form: str) -> Path:
    for number, part in enumerate(parts):
        if form == "bin":
            part.tofile(folder / f"part-{number}.bin")
            continue
        made = columns(part)
        rest = pyarrow.array([value.tobytes() for value in made["rest"]], pyarrow.binary())
        table = pyarrow.table({"prefix": made["prefix"], "suffix": made["suffix"], "rest": rest})
        pyarrow.parquet.write_table(table, folder / f"part-{number}.parquet")
    return folder


@pytest.mark.parametrize("form", ["bin", "parquet"])
def test_files_are_checked_within_and_between(tmp_path: Path, form: str) -> None:
    made = records([b"b" * 10, b"a" * 10, b"c" * 10, b"c" * 9 + b"b"])
    good = written(tmp_path, [made[[1, 0]], made[:0], made[[3, 2]]], form)
    assert problem(good, 4, checksum(made)) == ""
    assert "not 5" in problem(good, 5, checksum(made))
    assert "not those" in problem(good, 4, checksum(made) + 1)


@pytest.mark.parametrize("form", ["bin", "parquet"])
@pytest.mark.parametrize("cut", [1, 2])
def test_files_out_of_order_are_noticed(tmp_path: Path, form: str, cut: int) -> None:
    made = records([b"b" * 10, b"a" * 10, b"c" * 10])
    folder = written(tmp_path, [made[:cut], made[cut:]], form)
    assert "not in order" in problem(folder, 3, checksum(made))
