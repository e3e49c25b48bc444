"""TeraSort as a whole job, compared with another sort of the same bytes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from twister2_testkit.jobs import Jobs

pytestmark = pytest.mark.timeout(120)
RECORD = 100


def records_of(data: bytes) -> list[bytes]:
    return [data[at : at + RECORD] for at in range(0, len(data), RECORD)]


def parts_of(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.iterdir())]


def awkward(count: int) -> bytes:
    """Random records; of some the keys are equal, or differ in the last byte only, or begin and end with zeros."""
    words = np.random.default_rng(3).integers(0, 256, (count, RECORD), "u1")
    words[::5, :10] = 7
    words[1::5, :9] = 200
    words[2::50, :4] = 0
    words[2::50, 6:10] = 0
    words[3::50, :10] = 255
    return words.tobytes()


@pytest.mark.parametrize("workers", [2, 3])
def test_files_are_sorted_as_numpy_sorts_them(
    jobs: Jobs, examples: Path, transport: tuple[str, ...], tmp_path: Path, workers: int
) -> None:
    data = awkward(20_001)
    given, output = tmp_path / "input", tmp_path / "sorted"
    given.write_bytes(data)
    args = ["--input", str(given), "--output", str(output)]
    done = jobs.submit(examples / "terasort.py", *transport, workers=workers, args=args)
    assert done.code == 0, done
    assert f"20,001 records sorted by {workers} workers, checked" in done.out
    parts = parts_of(output)
    assert len(parts) == workers
    found = records_of(b"".join(parts))
    keys = np.frombuffer(data, np.dtype([("key", "V10"), ("payload", "V90")]))["key"].copy()
    ordered = keys.view("u1").reshape(-1, 10)
    wanted = ordered[np.lexsort(ordered.T[::-1])].tobytes()
    assert b"".join(record[:10] for record in found) == wanted
    assert Counter(found) == Counter(records_of(data))


def test_records_that_are_made_are_spread_evenly(jobs: Jobs, examples: Path, tmp_path: Path) -> None:
    output = tmp_path / "sorted"
    args = ["--records", "30000", "--output", str(output)]
    done = jobs.submit(examples / "terasort.py", workers=3, args=args)
    assert done.code == 0, done
    lengths = [len(part) // RECORD for part in parts_of(output)]
    assert sum(lengths) == 30_000
    assert min(lengths) > 8_000, lengths


@pytest.mark.parametrize("n_records", [0, 1])
def test_hardly_any_records(jobs: Jobs, examples: Path, tmp_path: Path, n_records: int) -> None:
    output = tmp_path / "sorted"
    args = ["--records", str(n_records), "--output", str(output)]
    done = jobs.submit(examples / "terasort.py", workers=2, args=args)
    assert done.code == 0, done
    assert f"{n_records} records sorted" in done.out


def test_a_file_that_was_cut_is_refused(jobs: Jobs, examples: Path, tmp_path: Path) -> None:
    given = tmp_path / "input"
    given.write_bytes(bytes(250))
    args = ["--input", str(given), "--output", str(tmp_path / "sorted")]
    done = jobs.submit(examples / "terasort.py", workers=2, args=args)
    assert done.code != 0, done
    assert "250 bytes, which is no multiple of 100" in done.err
