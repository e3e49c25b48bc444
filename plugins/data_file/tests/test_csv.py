"""Reading CSV."""

from __future__ import annotations

import gzip
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twister2.spec.errors import DataFormatError, UsageError
from twister2.spec.tasks import END
from twister2_data_file.arrow_types import told


@pytest.fixture
def people(tmp_path):
    path = tmp_path / "people.csv"
    path.write_text("name,age,town\n" + "".join(f"p{number},{number % 90},t{number % 7}\n" for number in range(20_000)))
    return path


def test_rows_with_types_from_the_file(files, people):
    rows = files.read(people, format="csv")
    assert len(rows) == 20_000
    assert rows[17] == {"name": "p17", "age": 17, "town": "t3"}
    _, plan = files.plan(people, format="csv")
    assert told(plan.schema) == "name: string, age: int64, town: string"


def test_columns_and_types(files, people):
    rows = files.read(people, format="csv", columns=("age", "name"), column_types={"age": "double"})
    assert list(rows[3].items()) == [("age", 3.0), ("name", "p3")]
    assert isinstance(rows[3]["age"], float)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(n_tasks=st.integers(1, 7), piece=st.integers(100, 40_000), header=st.booleans())
def test_files_without_quoted_newlines_are_cut(files, tmp_path, n_tasks, piece, header):
    lines = [f"{number},{'x' * (number % 40)}" for number in range(2000)]
    (tmp_path / "x.csv").write_text("\n".join((["n,x"] if header else []) + lines))
    options = {"newlines_in_values": False, "split_mb": piece / (1 << 20), "header": header, "block_kb": 1}
    _, plan = files.plan(tmp_path / "x.csv", format="csv", n_tasks=n_tasks, **options)
    assert len(plan.splits) > 1
    rows = files.read(tmp_path / "x.csv", format="csv", n_tasks=n_tasks, **options)
    assert [f"{a},{b}" for a, b in (row.values() for row in rows)] == lines


def test_quoted_newlines_by_default(files, tmp_path):
    (tmp_path / "x.csv").write_text('a,b\n1,"two\nlines"\n2,"say ""x"""\n')
    assert files.read(tmp_path / "x.csv", format="csv", split_mb=0.00001) == [
        {"a": 1, "b": "two\nlines"},
        {"a": 2, "b": 'say "x"'},
    ]


def test_no_header_names_delimiter_and_byte_order_mark(files, tmp_path):
    (tmp_path / "x.csv").write_bytes(b"\xef\xbb\xbf1;2\n3;4\n")
    assert files.read(tmp_path / "x.csv", format="csv", header=False, delimiter=";", column_names=["a", "b"]) == [
        {"a": 1, "b": 2},
        {"a": 3, "b": 4},
    ]
    assert files.read(tmp_path / "x.csv", format="csv", header=False, delimiter=";")[0] == {"f0": 1, "f1": 2}


def test_gzip_empty_and_header_only(files, tmp_path):
    (tmp_path / "1.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n"))
    (tmp_path / "2.csv").write_bytes(b"")
    (tmp_path / "3.csv").write_bytes(b"a,b\n")
    assert files.read(tmp_path, format="csv") == [{"a": 1, "b": 2}]


@pytest.mark.parametrize("cut", [False, True])
def test_malformed_row_is_named(files, people, cut):
    with people.open("a") as file:
        file.write("too,many,values,here\n")
    options = {"newlines_in_values": not cut, "split_mb": 0.05 if cut else 64.0}
    with pytest.raises(DataFormatError) as caught:
        files.read(people, format="csv", n_tasks=3, **options)
    assert f"{people}: row 20002 has 4 columns, expected 3" in str(caught.value)
    assert caught.value.details == {"path": str(people), "expected": 3, "found": 4, "row": 20002}


def test_value_of_another_type_is_named(files, people):
    with people.open("a") as file:
        file.write("x,old,y\n")
    with pytest.raises(DataFormatError, match="does not fit") as caught:
        files.read(people, format="csv", column_types={"age": "int64"})
    assert "old" in str(caught.value)


def test_malformed_first_rows(files, tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1\n")
    with pytest.raises(DataFormatError, match="row 2 has 1 columns, expected 2"):
        files.read(tmp_path / "x.csv", format="csv")


def test_not_utf8(files, tmp_path):
    (tmp_path / "x.csv").write_bytes(b"a,b\n1,\xff\xfe\n")
    with pytest.raises(DataFormatError, match=r"x\.csv"):
        files.read(tmp_path / "x.csv", format="csv", column_types={"b": "string"})
    (tmp_path / "y.csv").write_bytes(b"a,\xff\n1,2\n")
    with pytest.raises(DataFormatError, match=r"y\.csv"):
        files.read(tmp_path / "y.csv", format="csv")


def test_truncated_gzip(files, tmp_path):
    packed = gzip.compress("".join(f"{number},{number * 7919}\n" for number in range(50_000)).encode())
    (tmp_path / "x.csv.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DataFormatError, match=r"x\.csv\.gz: the gzip archive is cut off"):
        files.read(tmp_path / "x.csv.gz", format="csv", header=False)


def test_different_headers_name_both_files(files, tmp_path):
    (tmp_path / "1.csv").write_text("a,b\n1,2\n")
    (tmp_path / "2.csv").write_text("a,c\n1,2\n")
    with pytest.raises(DataFormatError) as caught:
        files.plan(tmp_path, format="csv")
    assert all(part in str(caught.value) for part in ("1.csv", "2.csv", "'b'"))


def test_only_rows_for_which_the_predicate_holds_are_read(files, people):
    rows = files.read(people, format="csv", columns=("name",), predicate=(("age", ">", 88), ("town", "==", "t3")))
    assert rows == [{"name": f"p{number}"} for number in range(20_000) if number % 90 == 89 and number % 7 == 3]
    with pytest.raises(DataFormatError, match="no column 'nix'"):
        files.plan(people, format="csv", predicate=(("nix", "==", 1),))


def test_bad_options(files, people):
    with pytest.raises(DataFormatError, match="no column 'nix'"):
        files.plan(people, format="csv", columns=("nix",))
    with pytest.raises(UsageError, match="integer64"):
        files.read(people, format="csv", column_types={"age": "integer64"})
    with pytest.raises(UsageError, match="on_decode_error"):
        files.plan(people, format="csv", on_decode_error="skip")
    with pytest.raises(DataFormatError, match="column_names gives 1"):
        files.plan(people, format="csv", column_names=["x"])


def test_row_longer_than_a_block(files, tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1," + "x" * 10_000 + "\n")
    with pytest.raises(DataFormatError, match="block_kb"):
        files.read(tmp_path / "x.csv", format="csv", block_kb=1)


@pytest.mark.parametrize("stop", [0, 1, 5])
def test_restore(files, people, stop):
    def reader():
        (made,) = files.readers(people, format="csv", n_tasks=1, block_kb=16, newlines_in_values=False, split_mb=0.1)
        return made

    first, rest = reader(), reader()
    rows = [row for _ in range(stop) for row in first.poll().to_pylist()]
    rest.restore(json.loads(json.dumps(first.position())))
    first.close()
    while (batch := rest.poll()) is not END:
        rows += batch.to_pylist()
    assert [row["name"] for row in rows] == [f"p{number}" for number in range(20_000)]
    rest.close()
