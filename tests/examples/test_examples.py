"""Every example, run as a whole job, with a checked answer."""

from __future__ import annotations

import csv
import importlib.util
import os
import re
import sys
import sysconfig
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from twister2_testkit.jobs import Jobs

pytestmark = pytest.mark.timeout(120)


def words_of(folder: Path, pattern: str = "*.txt") -> list[tuple[str, int]]:
    """The counts by collections.Counter, most frequent first, then by word."""
    counts: Counter[str] = Counter()
    for path in folder.glob(pattern):
        counts.update(path.read_text(encoding="utf-8").split())
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def table_of(out: str) -> list[tuple[str, int]]:
    """The rows of the printed table of words."""
    rows = re.findall(r"^(\S+) +([\d,]+)  #+$", out, re.MULTILINE)
    return [(word, int(count.replace(",", ""))) for word, count in rows]


def load(path: Path):
    """An example as a module."""
    spec = importlib.util.spec_from_file_location(f"example_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_hello(jobs: Jobs, examples: Path, transport: tuple[str, ...]) -> None:
    done = jobs.submit(examples / "hello.py", *transport, workers=2)
    assert done.code == 0, done
    # threads share one stdout: what two of them print may stand on one line
    assert sorted(re.findall(r"hello from worker (\d) of 2 on ", done.out)) == ["0", "1"]


def test_word_count_is_the_same_as_counter(
    jobs: Jobs, examples: Path, transport: tuple[str, ...], texts: Path, tmp_path: Path
) -> None:
    expected = words_of(texts)
    output = tmp_path / "counts"
    args = [f"{texts}/*.txt", "--top", "7", "--output", str(output)]
    done = jobs.submit(examples / "wordcount.py", *transport, workers=2, args=args)
    assert done.code == 0, done
    assert table_of(done.out) == expected[:7]
    total = sum(count for _, count in expected)
    assert f"{total:,} words, {len(expected):,} different" in done.out
    for part in ("plan wordcount", "net.count_by_value", "records/s", "MB/s"):
        assert part in done.out
    rows = [row for path in sorted((output / "parquet").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    assert [(row["word"], row["count"]) for row in rows] == expected
    read = []
    for path in sorted((output / "csv").glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            read += [(row["word"], int(row["count"])) for row in csv.DictReader(file)]
    assert read == expected


@pytest.mark.parametrize(
    ("profile", "comm"),
    [
        pytest.param("slurm", "tcp", marks=pytest.mark.needs_slurm),
        pytest.param("slurm", "mpi", marks=[pytest.mark.needs_slurm, pytest.mark.needs_mpi]),
        pytest.param("nomad", "tcp", marks=pytest.mark.needs_nomad),
        pytest.param("mesos", "tcp", marks=pytest.mark.needs_mesos),
    ],
)
def test_word_count_of_real_text_on_a_cluster(
    jobs: Jobs, examples: Path, tmp_path: Path, profile: str, comm: str
) -> None:
    # where the server is; what it keeps of a job until 'twister2 clean', e.g. Slurm's batch script
    jobs.environment.update({name: value for name, value in os.environ.items() if name.startswith("TWISTER2__RM__")})
    jobs.kept += (f"{profile}/",)
    library = Path(sysconfig.get_path("stdlib"))
    expected = words_of(library / "email", "*.py")
    output = tmp_path / "counts"
    args = [f"{library}/email/*.py", "--top", "9", "--output", str(output)]
    options = ("-o", f"job.comm={comm}", "-o", "job.queue_deadline_s=60")
    done = jobs.submit(examples / "wordcount.py", *options, profile=profile, workers=4, args=args)
    assert done.code == 0, done
    assert "counting with 4 workers" in done.out
    assert table_of(done.out) == expected[:9]
    parts = [pq.read_table(path) for path in sorted((output / "parquet").glob("*.parquet"))]
    assert [(row["word"], row["count"]) for part in parts for row in part.to_pylist()] == expected
    assert sorted(event["worker"] for event in jobs.events("worker_joined")) == [0, 1, 2, 3]
    assert jobs.cli("clean", "last").code == 0
    assert jobs.folders() == []


def test_word_count_names_the_files_it_skips(jobs: Jobs, examples: Path, texts: Path) -> None:
    (texts / "latin.txt").write_bytes(b"caf\xe9 " * 10)
    program = examples / "wordcount.py"
    refused = jobs.submit(program, args=[f"{texts}/*.txt"])
    assert refused.code != 0, refused
    assert "latin.txt" in refused.err
    assert "on_decode_error" in refused.err
    done = jobs.submit(program, "-o", "data.file.on_decode_error=skip", args=[f"{texts}/*.txt"])
    assert done.code == 0, done
    assert len(re.findall(r"^skipped .*latin\.txt: not UTF-8", done.out, re.MULTILINE)) == 1
    (texts / "latin.txt").unlink()
    assert table_of(done.out) == words_of(texts)[:20]


def test_word_count_by_python_alone(jobs: Jobs, examples: Path, texts: Path) -> None:
    done = jobs.python(examples / "wordcount.py", texts / "a.txt", texts / "empty.txt", "--workers", "3", "--top", "1")
    assert done.code == 0, done
    assert "counting with 3 workers" in done.out
    only = Counter((texts / "a.txt").read_text(encoding="utf-8").split())
    assert table_of(done.out) == sorted(only.items(), key=lambda pair: (-pair[1], pair[0]))[:1]


def test_word_count_of_nothing(jobs: Jobs, examples: Path, texts: Path) -> None:
    done = jobs.submit(examples / "wordcount.py", args=[str(texts / "empty.txt")])
    assert done.code == 0, done
    assert "no words" in done.out
    missing = jobs.submit(examples / "wordcount.py", args=[f"{texts}/nothing*.txt"])
    assert missing.code != 0
    assert "nothing*.txt" in missing.err


@pytest.mark.parametrize("own_text", [False, True])
def test_word_count_at_four_levels(jobs: Jobs, examples: Path, texts: Path, own_text: bool) -> None:
    args = [str(texts / "a.txt")] if own_text else []
    done = jobs.submit(examples / "wordcount_levels.py", workers=3, args=args)
    assert done.code == 0, done
    text = (texts / "a.txt").read_text(encoding="utf-8") if own_text else load(examples / "wordcount_levels.py").TEXT
    total = len(text.split())
    assert re.findall(r"(\w+): (\d+) words", done.out) == [
        (level, str(total)) for level in ("worker", "operators", "graph", "TSet")
    ]


def test_kmeans_finds_the_centres_of_plain_numpy(jobs: Jobs, examples: Path, transport: tuple[str, ...]) -> None:
    args = ["--points", "3000", "--clusters", "4", "--iterations", "12", "--dimensions", "3", "--seed", "9"]
    done = jobs.submit(examples / "kmeans.py", *transport, workers=2, args=args)
    assert done.code == 0, done
    kmeans = load(examples / "kmeans.py")
    points, centres = kmeans.random_points(kmeans.parser().parse_args(args))
    for _ in range(12):
        nearest = ((points[:, None, :] - centres[None, :, :]) ** 2).sum(axis=2).argmin(axis=1)
        centres = np.array([points[nearest == k].mean(axis=0) for k in range(4)])
    shown = np.array([line.split()[2:] for line in done.out.splitlines() if line.startswith("centre")], dtype=float)
    np.testing.assert_allclose(shown, centres[np.lexsort(centres.T[::-1])], atol=1e-4)
