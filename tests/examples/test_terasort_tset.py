"""TeraSort at TSet level as a whole job: the bytes of its files against Python's own sort."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from twister2_testkit.jobs import Jobs

pytestmark = pytest.mark.timeout(120)


def records_of(folder: Path) -> list[bytes]:
    data = b"".join(path.read_bytes() for path in sorted(folder.glob("part-*")))
    assert len(data) % 100 == 0
    return [data[at : at + 100] for at in range(0, len(data), 100)]


@pytest.mark.parametrize(("workers", "partitions"), [(2, 5), (3, 3)])
def test_the_sorted_files_hold_the_generated_records_in_order(
    jobs: Jobs, examples: Path, tmp_path: Path, workers: int, partitions: int
) -> None:
    output = tmp_path / "tera"
    args = ["--records", "25001", "--partitions", str(partitions), "--output", str(output)]
    done = jobs.submit(examples / "terasort_tset.py", workers=workers, args=args)
    assert done.code == 0, done
    made = records_of(output / "generated")
    assert [int(record[10:99]) for record in made] == list(range(25_001))
    assert records_of(output / "sorted") == sorted(made, key=lambda record: record[:10])  # equal keys keep their order
    sizes = [path.stat().st_size for path in sorted((output / "sorted").glob("part-*"))]
    assert len(sizes) == partitions
    assert max(sizes) < 2 * min(sizes)
    assert f"25,001 records sorted by {workers} workers, in order and complete" in done.out


def test_by_python_alone_twice_into_one_folder(jobs: Jobs, examples: Path, tmp_path: Path) -> None:
    for count in (300, 0):
        done = jobs.python(examples / "terasort_tset.py", "--records", str(count), "--output", str(tmp_path / "tera"))
        assert done.code == 0, done
        assert f"{count} records sorted by 2 workers" in done.out
        assert len(records_of(tmp_path / "tera" / "sorted")) == count


def test_summaries_tell_what_validation_looks_for(examples: Path) -> None:
    spec = importlib.util.spec_from_file_location("terasort_tset", examples / "terasort_tset.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    records = np.sort(example.block(1, 0, 50), order="key")
    ((count, total, ordered, first, last),) = example.summary(records)
    assert (count, ordered, first, last) == (50, True, records["key"][0], records["key"][-1])
    ((_, same, unordered, *_),) = example.summary(records[::-1])
    assert (same, unordered) == (total, False)
    other = records.copy()
    other["value"][7] = other["value"][7].replace(b"0", b"1", 1)
    assert example.summary(other)[0][1] != total
