"""Which files a request names, and how they are cut."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from twister2.spec.data import assign_splits
from twister2.spec.errors import DataAccessError, DataNotFoundError, UsageError
from twister2_data_file.inputs import cut, split_size
from twister2_data_file.stores import FoundFile


@pytest.fixture
def tree(tmp_path):
    for name in ["a.txt", "b.log", "_c.txt", ".hidden.txt", "_SUCCESS", "sub/d.txt", "sub/deep/e.txt", ".git/f.txt"]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name}\n")
    return tmp_path


def test_folder_is_read_recursively_without_hidden_files(files, tree):
    assert files.read(tree) == ["_c.txt", "a.txt", "b.log", "sub/d.txt", "sub/deep/e.txt"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.txt", ["_c.txt", "a.txt"]),
        ("**/*.txt", ["_c.txt", "a.txt", "sub/d.txt", "sub/deep/e.txt"]),
        ("[ab].*", ["a.txt", "b.log"]),
        ("sub/**", ["sub/d.txt", "sub/deep/e.txt"]),
        ("*", ["_c.txt", "a.txt", "b.log"]),
    ],
)
def test_globs(files, tree, pattern, expected):
    assert files.read(tree / pattern) == expected


def test_hidden_files_are_read_when_named(files, tree):
    assert files.read(tree / ".hidden.txt", tree / "_SUCCESS") == [".hidden.txt", "_SUCCESS"]


def test_a_file_named_twice_is_read_once(files, tree):
    assert files.read(tree / "b.log", tree / "*", tree / "a.txt") == ["b.log", "_c.txt", "a.txt"]


def test_existing_name_with_magic_characters_is_no_glob(files, tmp_path):
    (tmp_path / "x[1].txt").write_text("odd\n")
    assert files.read(tmp_path / "x[1].txt") == ["odd"]


def test_file_uri_and_home(files, tree, monkeypatch):
    monkeypatch.setenv("HOME", str(tree))
    assert files.read(f"file://{tree}/a.txt", "~/b.log") == ["a.txt", "b.log"]


def test_relative_path_is_made_absolute_for_the_workers(files, tree, monkeypatch):
    monkeypatch.chdir(tree)
    _, plan = files.plan("a.txt")
    assert [split.spec["path"] for split in plan.splits] == [str(tree / "a.txt")]


def test_all_missing_inputs_are_named(files, tree):
    with pytest.raises(DataNotFoundError) as caught:
        files.plan(tree / "x.txt", tree / "a.txt", tree / "*.none", tree / "no" / "such" / "y.txt", tree / "su*")
    text = str(caught.value)
    assert all(name in text for name in ["x.txt", "*.none", "y.txt", f"no folder {tree / 'no'}", "only folders"])
    assert len(caught.value.details["paths"]) == 4


def test_empty_folder_is_missing_input_but_finished_output_may_be_empty(files, tmp_path):
    with pytest.raises(DataNotFoundError, match="no such input"):
        files.plan(tmp_path)
    (tmp_path / "_SUCCESS").touch()
    assert files.read(tmp_path) == []


def test_dangling_link_and_pipe(files, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataNotFoundError, match="link"):
        files.plan(tmp_path / "link")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataAccessError, match="pipe"):
        files.plan(tmp_path / "pipe")


def test_what_is_wrong_in_a_folder_is_named_with_a_remedy_that_fits(files, tree):
    (tree / "sub" / "broken").symlink_to(tree / "nowhere")
    with pytest.raises(DataNotFoundError) as caught:
        files.plan(tree)
    assert caught.value.details["paths"] == [str(tree / "sub" / "broken")]
    assert str(tree / "nowhere") in caught.value.why
    assert caught.value.remedy == "mend or remove the link"
    (tree / "empty").mkdir()
    with pytest.raises(DataNotFoundError) as caught:
        files.plan(tree / "empty")
    assert "spelling" not in caught.value.remedy
    os.mkfifo(tree / "pipe")
    with pytest.raises(DataAccessError) as caught:
        files.plan(tree / "pipe")
    assert "named pipe" in caught.value.why
    assert "right to read" not in caught.value.remedy


def test_a_link_is_a_file_of_its_own(files, tree):
    (tree / "z.txt").symlink_to(tree / "a.txt")
    assert files.read(tree / "a.txt", tree / "z.txt") == ["a.txt", "a.txt"]


def test_misspelt_columns(files, tree):
    with pytest.raises(UsageError, match="did you mean 'columns'"):
        files.plan(tree / "a.txt", format="csv", colums=["a"])


def test_unreadable_files_are_named(files, tree, monkeypatch):
    refused = {str(tree / "a.txt"), str(tree / "b.log")}
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) not in refused)
    with pytest.raises(DataAccessError) as caught:
        files.plan(tree / "a.txt", tree / "_c.txt", tree / "b.log")
    assert sorted(caught.value.details["paths"]) == sorted(refused)


def test_file_that_becomes_unreadable_after_planning(files, tree, monkeypatch):
    (reader,) = files.readers(tree / "a.txt", n_tasks=1)
    real = open

    def refusing(path, *args, **kwargs):
        if str(path).endswith("a.txt"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr("builtins.open", refusing)
    with pytest.raises(DataAccessError, match=r"a\.txt"):
        reader.poll()


def test_file_that_vanishes_after_planning(files, tree):
    (reader,) = files.readers(tree / "a.txt", n_tasks=1)
    (tree / "a.txt").unlink()
    with pytest.raises(DataNotFoundError, match=r"a\.txt"):
        reader.poll()


def test_unknown_scheme(files):
    with pytest.raises(DataAccessError, match="nonsense"):
        files.plan("nonsense://x/y")


def test_options_are_checked_all_at_once(files, tree):
    with pytest.raises(UsageError) as caught:
        files.plan(tree / "a.txt", split_md=3, block_kb=0, on_decode_error="ignore")
    text = str(caught.value)
    assert "did you mean 'split_mb'" in text
    assert "block_kb" in text
    assert "on_decode_error" in text


def test_unknown_format_and_columns_of_text(files, tree):
    with pytest.raises(UsageError, match="orc"):
        files.plan(tree / "a.txt", format="orc")
    with pytest.raises(UsageError, match="columns"):
        files.plan(tree / "a.txt", columns=("a",))
    with pytest.raises(UsageError, match="nothing to read"):
        files.plan()


def test_big_file_is_cut_by_split_size_and_by_tasks(files, tmp_path):
    (tmp_path / "big.txt").write_bytes(b"x" * 99 + b"\n" + b"y" * (3 << 20))
    _, plan = files.plan(tmp_path / "big.txt", n_tasks=1, split_mb=0.5)
    assert len(plan.splits) == 8  # two rounds of four per task: 7 could not be shared evenly by more tasks
    assert max(split.n_bytes for split in plan.splits) <= 1 << 19
    _, shared = files.plan(tmp_path / "big.txt", n_tasks=3)
    assert len(shared.splits) >= 6


@pytest.mark.parametrize("n_tasks", [1, 2, 3, 7])
@pytest.mark.parametrize("size", [2_000_000_011, 501_381_556, 9_999_999])
def test_tasks_get_equal_shares_of_one_big_file(size, n_tasks):
    file = FoundFile("big.txt", size)
    parts = assign_splits(cut(file, split_size([file], n_tasks, 64.0), whole=False), n_tasks)
    shares = [sum(split.n_bytes for split in part) for part in parts]
    assert sum(shares) == size
    assert max(shares) - min(shares) <= 64


def test_nothing_heavy_is_imported_by_the_plugin():
    code = """
import os, sys
from twister2.spec.data import ReadRequest
from twister2_data_file.config import FileConfig
from twister2_data_file.plugin import FilePlugin
backend = FilePlugin().data_create(FileConfig())
request = ReadRequest((os.__file__,), "text")
backend.open(request, backend.plan(request, 1).splits).poll()
print(sorted({"pyarrow", "fsspec", "numpy", "asyncio"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize(
    ("given", "known"),
    [("delimeter", "delimiter"), ("sep", "delimiter"), ("column_name", "column_names"), ("names", "column_names")],
)
def test_misspelt_options_of_csv(files, tree, given, known):
    with pytest.raises(UsageError, match=f"{given}: no such option; (did you mean|here it is) '{known}'"):
        files.plan(tree / "a.txt", format="csv", **{given: ";"})


def test_an_option_that_this_read_does_not_take_is_not_suggested_for_itself(files, tree):
    with pytest.raises(UsageError) as caught:
        files.plan(tree / "a.txt", format="csv", partitions=3)
    assert "did you mean" not in str(caught.value)
