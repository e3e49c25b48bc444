"""The joins as a whole job, against nested loops."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from twister2_testkit.jobs import Jobs

pytestmark = pytest.mark.timeout(120)


def shown_tables(out: str) -> dict[str, list[list[str]]]:
    """The header and the rows of each table that was printed."""
    tables = {}
    for how, number, text in re.findall(r"^(\w+) join, (\d+) rows\n(.*?)(?:\n\n|\Z)", out, re.DOTALL | re.MULTILINE):
        header, line, *rows = text.splitlines()
        assert set(line) == {"-"}
        assert len(rows) == int(number)
        tables[how] = [header.split(), *(row.split() for row in rows)]
    return tables


def joined(left: list[list[str]], right: list[list[str]], how: str) -> list[list[str]]:
    rows = [[*one, *other[1:]] for one in left for other in right if one[0] == other[0]]
    if how in ("left", "full"):
        keys = {other[0] for other in right}
        rows += [[*one, "-"] for one in left if one[0] not in keys]
    if how in ("right", "full"):
        keys = {one[0] for one in left}
        rows += [[other[0], "-", "-", *other[1:]] for other in right if other[0] not in keys]
    return sorted(rows)


@pytest.mark.parametrize("algorithm", ["hash", "sort"])
def test_files_are_joined_in_all_ways(jobs: Jobs, examples: Path, tmp_path: Path, algorithm: str) -> None:
    numbers = random.Random(4)
    left = [[f"k{numbers.randrange(30)}", f"a{row}", f"b{row % 7}"] for row in range(40)]
    right = [[f"k{numbers.randrange(30)}", f"c{row}"] for row in range(30)]
    for name, header, rows in (("left.csv", "word,a,b", left), ("right.csv", "word,c", right)):
        (tmp_path / name).write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n")
    args = [str(tmp_path / "left.csv"), str(tmp_path / "right.csv"), "--key", "word", "--algorithm", algorithm]
    done = jobs.submit(examples / "joins.py", workers=2, args=args)
    assert done.code == 0, done
    tables = shown_tables(done.out)
    assert list(tables) == ["inner", "left", "right", "full"]
    for how, (header, *rows) in tables.items():
        assert header == ["word", "a", "b", "c"]
        assert sorted(rows) == joined(left, right, how), how


def test_tables_of_its_own(jobs: Jobs, examples: Path) -> None:
    done = jobs.python(examples / "joins.py", "--how", "full")
    assert done.code == 0, done
    assert shown_tables(done.out) == {
        "full": [
            ["id", "name", "town", "item", "price"],
            ["1", "Ada", "Ulm", "ink", "3.5"],
            ["1", "Ada", "Ulm", "pens", "12.0"],
            ["2", "Max", "Jena", "-", "-"],
            ["3", "Eva", "Bonn", "paper", "4.25"],
            ["4", "-", "-", "lamp", "30.0"],
            ["5", "Kai", "Ulm", "desk", "199.0"],
        ]
    }


def test_one_table_is_too_few(jobs: Jobs, examples: Path) -> None:
    done = jobs.submit(examples / "joins.py", args=["only.csv"])
    assert done.code != 0, done
    assert "give two tables, or none" in done.err
