"""What ``make demo`` runs counts every word of the standard library, and nothing else."""

from __future__ import annotations

import collections
import importlib.util
import re
import subprocess
import sysconfig
from pathlib import Path

import pyarrow.parquet
import pytest

from twister2_testkit.jobs import Jobs

pytestmark = pytest.mark.timeout(120)

DEMO = Path(__file__).resolve().parents[2] / "tools" / "demo.py"


def test_the_demo_counts_the_standard_library(jobs: Jobs, tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("demo", DEMO)
    assert spec is not None
    assert spec.loader is not None
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    before, globs, after = demo.command(tmp_path / "output")
    done = subprocess.run(
        [*before, *globs, *after], env=jobs.environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr

    library = Path(sysconfig.get_path("stdlib"))
    installed = {"site-packages", "dist-packages"}
    assert not [glob for glob in globs if installed & {*Path(glob).parts}]
    expected: collections.Counter[str] = collections.Counter()
    skipped = set()
    for path in library.rglob("*.py"):
        if not installed & {*path.relative_to(library).parts}:
            try:
                expected.update(path.read_bytes().decode("utf-8-sig").split())
            except UnicodeDecodeError:
                skipped.add(str(path))
    table = pyarrow.parquet.read_table(tmp_path / "output" / "parquet")
    words, counts = (table.column(name).to_pylist() for name in ("word", "count"))
    assert len(words) == len(set(words))
    assert dict(zip(words, counts, strict=True)) == expected
    assert counts == sorted(counts, reverse=True)
    assert {match[1] for match in re.finditer(r"^skipped (\S+\.py)\b", done.stdout, re.MULTILINE)} == skipped
    assert skipped, "the library always has some files that are not UTF-8: this test has not seen one"
    assert f"{sum(expected.values()):,} words, {len(expected):,} different" in done.stdout, done.stdout
