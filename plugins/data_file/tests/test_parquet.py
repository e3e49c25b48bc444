"""Reading Parquet."""

from __future__ import annotations

import datetime
import json

import attrs
import pyarrow as pa
import pytest
from pyarrow import parquet

from twister2.spec.data import assign_splits
from twister2.spec.errors import DataFormatError, UsageError
from twister2.spec.tasks import END
from twister2_data_file.arrow_types import told


@pytest.fixture
def table(tmp_path):
    """1,000 rows in ten row groups of ascending ``n``."""
    rows = {"n": list(range(1000)), "word": [f"w{number % 10}" for number in range(1000)], "x": [0.5] * 1000}
    parquet.write_table(pa.table(rows), tmp_path / "t.parquet", row_group_size=100)
    return tmp_path / "t.parquet"


@pytest.mark.parametrize("n_tasks", [1, 3, 20])
def test_all_rows_once(files, table, n_tasks):
    rows = files.read(table, format="parquet", n_tasks=n_tasks, split_mb=0.001)
    assert [row["n"] for row in rows] == list(range(1000))
    assert rows[5] == {"n": 5, "word": "w5", "x": 0.5}


def test_columns_are_pruned(files, table):
    (batch, *_) = files.batches(table, format="parquet", columns=("word",))
    assert batch.schema.names == ["word"]
    _, plan = files.plan(table, format="parquet", columns=("word",))
    assert told(plan.schema) == "word: string"


def groups(plan):
    return [group for split in plan.splits for group in split.spec["groups"]]


@pytest.mark.parametrize(
    ("predicate", "left"),
    [
        (("n", "==", 250), [2]),
        (("n", "<", 200), [0, 1]),
        (("n", "<=", 200), [0, 1, 2]),
        (("n", ">", 899), [9]),
        (("n", ">=", 899), [8, 9]),
        (("n", "in", (5, 777)), [0, 7]),
        (("n", "!=", 5), list(range(10))),
        (("word", "==", "zebra"), []),
        (("n", "==", "text"), list(range(10))),
    ],
)
def test_row_groups_are_pruned_by_statistics(files, table, predicate, left):
    _, plan = files.plan(table, format="parquet", predicate=(predicate,))
    assert groups(plan) == left


def test_predicate_column_need_not_be_read(files, table):
    rows = files.read(table, format="parquet", columns=("x",), predicate=(("n", ">", 899),))
    assert rows == [{"x": 0.5}] * 100


def test_pruned_groups_split_a_run(files, table):
    _, plan = files.plan(table, format="parquet", predicate=(("n", "in", (150, 950)),), n_tasks=1)
    assert [split.spec["groups"] for split in plan.splits] == [[1], [9]]


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"n": [1.5], "word": ["a"], "x": [0.5]}, "'n' is int64 in the first and double in the second"),
        ({"n": [1], "x": [0.5]}, "'word' is missing"),
        ({"n": [1], "word": ["a"], "x": [0.5], "y": [1]}, "'y' is only in the second"),
        ({"word": ["a"], "n": [1], "x": [0.5]}, "another order"),
    ],
)
def test_different_schemas_name_both_files_and_the_field(files, table, other, told):
    parquet.write_table(pa.table(other), table.with_name("u.parquet"))
    with pytest.raises(DataFormatError) as caught:
        files.plan(table.parent, format="parquet")
    assert all(part in str(caught.value) for part in ("t.parquet", "u.parquet", told))


def test_difference_in_a_column_that_is_not_wanted(files, table):
    parquet.write_table(pa.table({"n": [1.5], "word": ["a"]}), table.with_name("u.parquet"))
    assert len(files.read(table.parent, format="parquet", columns=("word",))) == 1001


def test_damaged_files(files, table, tmp_path):
    (tmp_path / "no.parquet").write_text("this is text, but long enough")
    with pytest.raises(DataFormatError, match=r"no\.parquet: not a whole Parquet file"):
        files.plan(tmp_path / "no.parquet", format="parquet")
    (tmp_path / "cut.parquet").write_bytes(table.read_bytes()[:-50])
    with pytest.raises(DataFormatError, match=r"cut\.parquet"):
        files.plan(tmp_path / "cut.parquet", format="parquet")
    content = bytearray(table.read_bytes())
    content[4:400] = bytes(396)
    (tmp_path / "pages.parquet").write_bytes(content)
    with pytest.raises(DataFormatError, match=r"pages\.parquet"):
        files.read(tmp_path / "pages.parquet", format="parquet")


def test_bad_requests(files, table):
    with pytest.raises(DataFormatError, match="no column 'nix'"):
        files.plan(table, format="parquet", columns=("nix",))
    with pytest.raises(DataFormatError, match="no column 'nix'"):
        files.plan(table, format="parquet", predicate=(("nix", "==", 1),))
    with pytest.raises(UsageError, match="~="):
        files.plan(table, format="parquet", predicate=(("n", "~=", 1),))


@pytest.mark.parametrize("stop", [0, 1, 4, 19])
def test_restore(files, table, stop):
    def reader():
        (made,) = files.readers(table, format="parquet", n_tasks=1, batch_rows=50, split_mb=0.001)
        return made

    first, rest = reader(), reader()
    rows = [row for _ in range(stop) for row in first.poll().to_pylist()]
    rest.restore(json.loads(json.dumps(first.position())))
    first.close()
    while (batch := rest.poll()) is not END:
        rows += batch.to_pylist()
    assert [row["n"] for row in rows] == list(range(1000))
    rest.close()


def test_through_fsspec(files):
    import fsspec

    store = fsspec.filesystem("memory")
    with store.open("memory://pq/t.parquet", "wb") as file:
        parquet.write_table(pa.table({"n": [1, 2]}), file)
    try:
        assert files.read("memory://pq", format="parquet") == [{"n": 1}, {"n": 2}]
    finally:
        store.rm("/pq", recursive=True)


def test_only_rows_for_which_the_predicate_holds_are_read(files, tmp_path):
    values = [*range(10), None]
    path = tmp_path / "x.parquet"
    parquet.write_table(pa.table({"a": values, "b": [str(value) for value in values]}), path, row_group_size=4)

    def rows(*predicate, columns=None):
        return files.read(path, format="parquet", columns=columns, predicate=predicate)

    assert [row["a"] for row in rows(("a", ">", 6))] == [7, 8, 9]
    assert rows(("a", "in", [3, 5]), columns=("b",)) == [{"b": "3"}, {"b": "5"}]
    assert [row["a"] for row in rows(("a", ">=", 2), ("b", "<", "4"))] == [2, 3]
    assert [row["a"] for row in rows(("a", "!=", 3))] == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert rows(("a", "not in", [3, 4, None]), columns=("b",)) == [{"b": one} for one in "01256789"]
    assert rows(("a", "is null", None)) == [{"a": None, "b": "None"}]
    assert len(rows(("a", "is not null", None))) == 10
    assert rows(("a", "==", None)) == rows(("a", "in", [None])) == []
    with pytest.raises(DataFormatError, match="compared"):
        rows(("a", "==", "x"))
    with pytest.raises(UsageError, match="a list of values"):
        rows(("b", "in", "123"))
    with pytest.raises(UsageError, match="no comparison"):
        rows("a > 3")


@pytest.mark.parametrize("n_tasks", [1, 3])
def test_what_was_planned_without_a_predicate_may_be_read_with_one(files, table, n_tasks):
    _, plan = files.plan(table, format="parquet", n_tasks=n_tasks)
    request, _ = files.plan(table, format="parquet", predicate=(("n", "in", (150, 950)),))
    found, n_bytes = [], 0
    for splits in assign_splits(plan.splits, n_tasks):
        reader = files.backend.open(request, splits)
        while (batch := reader.poll()) is not END:
            found += [] if batch is None else batch.column("n").to_pylist()
        n_bytes += reader.counters()["bytes"]
        reader.close()
    assert found == [150, 950]
    assert n_bytes < 1000, "only the rows that are wanted are counted"


def test_a_column_that_is_compared_and_was_not_planned_is_named(files, table):
    _, plan = files.plan(table, format="parquet", n_tasks=1)
    request, _ = files.plan(table, format="parquet", predicate=(("n", "==", 1),))
    request = attrs.evolve(request, predicate=(("nix", "==", 1),))
    reader = files.backend.open(request, plan.splits)
    with pytest.raises(DataFormatError, match="no column 'nix'"):
        reader.poll()


def test_times_in_nanoseconds_are_compared(files, tmp_path):
    path = tmp_path / "t.parquet"
    times = pa.array([1, 1_000_000_000], pa.timestamp("ns"))
    parquet.write_table(pa.table({"t": times, "n": [1, 2]}), path)
    wanted = (("t", "==", datetime.datetime(1970, 1, 1, 0, 0, 1)),)
    assert files.read(path, format="parquet", columns=("n",), predicate=wanted) == [{"n": 2}]


@pytest.mark.parametrize(
    ("values", "wanted", "left"),
    [
        ([1, 2, 3], [1.5, 2], [2]),
        ([1, 2, 3], [1.9, 2**70, True], [1]),
        ([True, False], [1], [True]),
        ([0.5, 1.0], [1, 0.7], [1.0]),
        ([datetime.date(2020, 1, 1)], [datetime.datetime(2020, 1, 1, 12)], []),
        (
            [datetime.date(2020, 1, 1)],
            [datetime.datetime(2020, 1, 1), datetime.date(2020, 1, 1)],
            [datetime.date(2020, 1, 1)],
        ),
    ],
    ids=str,
)
def test_values_of_other_types_are_not_made_to_fit(files, tmp_path, values, wanted, left):
    path = tmp_path / "x.parquet"
    parquet.write_table(pa.table({"a": values}), path, row_group_size=1)
    assert [row["a"] for row in files.read(path, format="parquet", predicate=(("a", "in", wanted),))] == left
