"""JSON lines: rows of columns, objects of any form, what is refused and where, what is written."""

from __future__ import annotations

import datetime
import json
import math

import numpy as np
import pyarrow as pa
import pytest

from twister2.spec.errors import DataFormatError, UsageError


@pytest.fixture
def put(tmp_path):
    def put(*lines, name="x.jsonl"):
        data = b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines)
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return put


def test_fields_are_those_of_all_lines(files, put):
    put('{"a":1}', '{"b":"x","a":2.5}', name="0")
    path = put(
        '{"c":[1,{"d":null}]}'.replace('1,{"d":null}', "1"), '{"a":null,"o":{"p":1}}', '{"o":{"q":"y"}}', name="1"
    )
    none = {"a": None, "b": None, "c": None, "o": None}
    assert files.read(path.parent, format="json") == [
        none | {"a": 1.0},
        none | {"a": 2.5, "b": "x"},
        none | {"c": [1]},
        none | {"o": {"p": 1, "q": None}},
        none | {"o": {"p": None, "q": "y"}},
    ]


@pytest.mark.parametrize("form", ["columns", "objects"])
@pytest.mark.parametrize("split", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n", "\n \t\n"])
def test_splits_and_blank_lines(files, put, form, split, end):
    rows = [{"n": number, "s": "é\u2028\n" * (number % 5)} for number in range(100)]
    text = "\ufeff" + "".join(json.dumps(row, ensure_ascii=number % 2 == 0) + end for number, row in enumerate(rows))
    path = put(text)
    assert files.read(path, format="json", form=form, split_mb=split / 1024, n_tasks=split, block_kb=1) == rows


def test_one_schema_for_all_batches(files, put):
    path = put(*(json.dumps({"n": number if number < 50 else None}) for number in range(2000)))
    schemas = {batch.schema for batch in files.batches(path, format="json", block_kb=1, n_tasks=3)}
    assert schemas == {pa.schema([("n", pa.int64())])}


def test_columns_and_predicate(files, put):
    path = put('{"a":1,"b":1}', '{"a":2,"b":2,"late":3}', '{"b":3}')
    assert files.read(path, format="json", columns=("b",), predicate=(("a", ">", 1),)) == [{"b": 2}]
    with pytest.raises(DataFormatError, match="no column 'z'"):
        files.plan(path, format="json", columns=("z",))


def test_columns_lose_nothing_of_what_they_hold(files, put):
    path = put(*['{"o":{"x":1},"n":1}'] * 3000, '{"o":{"x":1,"y":2},"z":1}')
    with pytest.raises(DataFormatError, match=r"line 3001 .* field o.y is not in"):
        files.read(path, format="json", columns=("o",), block_kb=4)
    assert len(files.read(path, format="json", columns=("n",))) == 3001


@pytest.mark.parametrize("depth", [10, 31, 40, 400])
def test_deep_values(files, put, depth):
    row = {"a": json.loads("[" * depth + "1" + "]" * depth)}
    path = put(json.dumps(row))
    assert files.read(path, format="json", form="objects") == [row]
    if depth < 32:
        assert files.read(path, format="json") == [row]
    else:
        with pytest.raises(DataFormatError, match="more than 32 levels"):
            files.plan(path, format="json")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("blank", ["\n", " ", "\r", "} ", "}\n", "\t\n"])
def test_many_blanks_take_no_time(files, put, blank):
    path = put(blank * 1_000_000 + '{"a":1}')
    if "}" in blank:
        with pytest.raises(DataFormatError):
            files.read(path, format="json")
    else:
        assert files.read(path, format="json") == [{"a": 1}]


def test_small_types_are_told_right(files, put):
    types = {"i": "int8", "f": "float", "d": "date32"}
    path = put('{"i":1,"f":1.5,"d":"2020-01-01","s":"x"}', '{"i":1,"s":2}')
    with pytest.raises(DataFormatError, match="line 2 does not fit the columns: s is 2, which is no string"):
        files.read(path, format="json", column_types=types)
    with pytest.raises(DataFormatError, match="line 1 does not fit the columns: i is 300, which is no int8"):
        files.read(put('{"i":300}'), format="json", column_types=types)


def test_types_named(files, put):
    path = put('{"d":"2024-02-29","t":"2020-01-01 10:00:00","n":1}', '{"n":null}')
    types = {"d": "date32", "t": "timestamp[ms]", "n": "double", "late": "int8"}
    assert files.read(path, format="json", column_types=types) == [
        {"d": datetime.date(2024, 2, 29), "t": datetime.datetime(2020, 1, 1, 10), "n": 1.0, "late": None},
        {"d": None, "t": None, "n": None, "late": None},
    ]


def test_objects_without_fields(files, put):
    rows = [{"a": None, "l": [None]}, {"a": {}, "l": [{}]}]
    assert files.read(put(*map(json.dumps, rows)), format="json") == rows


def test_text_stays_text(files, put):
    rows = [{"s": "2020-01-01"}, {"s": "1"}, {"s": "} null"}, {"s": "\n null"}]
    assert files.read(put(*map(json.dumps, rows)), format="json") == rows


def test_large_integers(files, put):
    large = [{"n": 1}, {"n": 2**64 - 1}]
    assert files.read(put(*map(json.dumps, large)), format="json") == large
    huge = [{"n": 10**30}]
    assert files.read(put(*map(json.dumps, huge)), format="json", form="objects") == huge
    with pytest.raises(DataFormatError, match="no int64"):
        files.read(put(*map(json.dumps, huge)), format="json")


def test_numbers_that_are_none(files, put):
    (one, two, three) = files.read(put('{"n":NaN}', '{"n":-Infinity}', '{"n":1}'), format="json")
    assert math.isnan(one["n"])
    assert (two["n"], three["n"]) == (-math.inf, 1.0)


def test_objects_of_all_kinds(files, put):
    rows = [1, "x", None, [1, [2]], {"a": {}}, True, 1.5]
    assert files.read(put(*map(json.dumps, rows)), format="json", form="objects") == rows
    for options in ({"columns": ("a",)}, {"predicate": (("a", ">", 1),)}, {"column_types": {"a": "int8"}}):
        with pytest.raises(UsageError, match="objects"):
            files.plan(put("1"), format="json", form="objects", **options)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("null", "is no object: None"),
        ("[1]", "is no object"),
        ('"x"', "is no object"),
        ('{"a":1', "is not JSON"),
        ('{"a":1}{"a":2}', "is not JSON"),
        ('{"a":1} null', "is not JSON"),
        ('{"a":1,}', "is not JSON"),
        ("{'a':1}", "is not JSON"),
        ('{"a":"x"}', "a is 'x', which is no int64"),
        ('{"a":1.5}', "a is 1.5, which is no int64"),
        ('{"a":9223372036854775808}', "which is no int64"),
        ('{"a":true}', "a is True"),
        ('{"a":[1]}', r"a is \[1\]"),
        ('{"b":1}', "field 'b' is not in"),
        ('{"o":{"y":1}}', "field o.y is not in"),
        ('{"l":[1,"x"]}', r"l\[1\] is 'x'"),
        ('{"a":1,"a":2}', "twice"),
        (b'{"a":"\xff"}', "not UTF-8"),
    ],
)
@pytest.mark.parametrize("n_tasks", [1, 4])
def test_a_bad_line_is_named(files, put, bad, says, n_tasks):
    good = ['{"a":1,"o":{"x":1},"l":[1]}', *['{"a":1}'] * 6000]
    path = put(*good[:5000], bad, *good[5000:])
    with pytest.raises(DataFormatError, match=says) as caught:
        files.read(path, format="json", n_tasks=n_tasks, block_kb=4, split_mb=0.01)
    if isinstance(bad, str):
        assert "line 5001" in str(caught.value)
        assert caught.value.details["line"] == 5001
        assert "column_types" in str(caught.value) or "correct the line" in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("bad", ["[" * 100_000, '{"a":' * 100_000, "1" * 5000, '{"a":NaN', "nul"])
@pytest.mark.parametrize("form", ["columns", "objects"])
def test_lines_that_harm_parsers(files, put, bad, form):
    with pytest.raises(DataFormatError, match="line 2 is not JSON"):
        files.read(put('{"a":1}', bad), format="json", form=form)


@pytest.mark.parametrize("text", ["", "\n", " \n\r\n", "\ufeff", "\ufeff\n"])
@pytest.mark.parametrize("form", ["columns", "objects"])
def test_nothing_on_the_lines(files, put, text, form):
    assert files.read(put(text), format="json", form=form) == []


FORMS = {
    "dicts": [{"w": "a", "n": 1}, {"w": "b", "n": 2}],
    "tuples": [("a", 1), ("b", 2)],
    "lists": [["a", 1], ["b", 2]],
    "structured": np.array([("a", 1), ("b", 2)], dtype=[("w", "U1"), ("n", "i8")]),
    "unnamed": np.array([("a", 1), ("b", 2)], dtype=[("x", "U1"), ("y", "i8")]),
    "arrow": pa.table({"w": ["a", "b"], "n": [1, 2]}),
    "arrow other names": pa.table({"x": ["a", "b"], "y": [1, 2]}),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_that_are_written(files, tmp_path, form):
    files.write(tmp_path / "out", "json", [FORMS[form]], column_names=["w", "n"])
    assert (tmp_path / "out" / "part-00000.jsonl").read_text() == '{"w":"a","n":1}\n{"w":"b","n":2}\n'


def test_without_names_tuples_are_arrays(files, tmp_path):
    files.write(tmp_path / "out", "json", [[("é", 1), 5, None, {"a": [1, 2]}], np.arange(2), np.ones((1, 2))])
    assert (tmp_path / "out" / "part-00000.jsonl").read_text() == '["é",1]\n5\nnull\n{"a":[1,2]}\n0\n1\n[1.0,1.0]\n'


def test_values_that_json_has_no_form_for(files, tmp_path):
    day = datetime.date(2024, 1, 2)
    fine = {"d": day, "t": datetime.datetime(2024, 1, 2, 3), "n": np.int32(4), "a": np.arange(2), "b": np.bool_(1)}
    files.write(tmp_path / "out", "json", [[fine]])
    written = {"d": "2024-01-02", "t": "2024-01-02T03:00:00", "n": 4, "a": [0, 1], "b": True}
    assert files.read(tmp_path / "out", format="json") == [written]


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, b"x", {1, 2}, object(), 1j, {(1,): 2}, "\ud800", pa.array([b"x"])]
)
def test_values_that_are_refused(files, tmp_path, value):
    with pytest.raises(DataFormatError, match=r"record 3 .* cannot be written as JSON"):
        files.write(tmp_path / "out", "json", [[1, 2], [3, {"a": value}]])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("record", [("a",), ("a", 1, 2), {"w": 1, "z": 2}, 5])
def test_records_that_do_not_fit_the_names(files, tmp_path, record):
    with pytest.raises(DataFormatError, match="record 1 "):
        files.write(tmp_path / "out", "json", [[("a", 1), record]], column_names=["w", "n"])


def test_restore_of_rows(files, put):
    path = put(*(json.dumps({"n": number}) for number in range(3000)))
    request, plan = files.plan(path, format="json", block_kb=1, n_tasks=1)
    reader = files.backend.open(request, plan.splits)
    got = [row["n"] for _ in range(3) for row in reader.poll().to_pylist()]
    again = files.backend.open(request, plan.splits)
    again.restore(json.loads(json.dumps(reader.position())))
    reader.close()
    assert again.poll().to_pylist()[0]["n"] == len(got)
    again.close()
