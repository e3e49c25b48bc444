"""Whole measurements, as whole jobs."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from twister2.spec.collectives import OPERATIONS
from twister2_testkit.hosts import Hosts
from twister2_testkit.jobs import Done, Jobs

pytestmark = pytest.mark.timeout(120)

PAIR_TESTS = {"latency", "bandwidth", "bidirectional"}
QUICK = ("--seconds", "1", "--sizes", "8,4K")
TRANSPORTS = {
    "tcp": ("--transport", "tcp"),
    "shm": ("--transport", "shm"),
    "inproc": ("--transport", "inproc", "-o", "rm.standalone.workers_as=threads"),
    "mpi": ("--transport", "mpi"),
}


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    with Jobs(tmp_path) as jobs:
        yield jobs


def bench(jobs: Jobs, *words: str) -> Done:
    return jobs.cli("bench", "comm", *words, timeout_s=90)


@pytest.mark.parametrize("transport", ["tcp", "shm", "inproc", pytest.param("mpi", marks=pytest.mark.needs_mpi)])
def test_every_operation_is_measured_over_every_transport(jobs: Jobs, transport: str) -> None:
    done = bench(jobs, "standalone", *QUICK, "--json", *TRANSPORTS[transport])
    assert done.code == 0, done
    found = json.loads(done.out)
    assert [worker["routes"] for worker in found["workers"]] == [{"1": transport}, {"0": transport}]
    by_name: dict[str, set[int]] = {}
    for row in found["rows"]:
        assert row["right"], row
        assert row["calls"] >= 5, row
        assert 0 < row["min_s"] <= row["median_s"] <= row["p99_s"] <= row["max_s"], row
        by_name.setdefault(row["operation"], set()).add(row["size"])
    assert by_name.pop("barrier") == {0}
    assert by_name == {key: {8, 4096} for key in PAIR_TESTS | set(OPERATIONS) - {"barrier"}}
    for row in found["rows"]:
        if row["operation"] in ("bandwidth", "bidirectional"):
            assert row["bytes_per_s"] == pytest.approx(row["size"] * row["messages_per_s"])


def test_three_workers_and_every_pair(jobs: Jobs, tmp_path: Path) -> None:
    figures = tmp_path / "figures.csv"
    words = ("--seconds", "1", "--max-size", "1K", "--operations", "latency,bandwidth,reduce_scatter", "-n", "3")
    done = bench(jobs, "standalone", *words, "--transport", "shm,tcp", "--shared", "--csv", str(figures))
    assert done.code == 0, done
    assert "3 workers, profile standalone" in done.out
    assert "transport   shm inside a host: 0-1, 0-2, 1-2" in done.out
    assert "pairs of workers, one after another: latency of 8 B, bandwidth of 1 KiB" in done.out
    with figures.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["between"] for row in rows if row["purpose"] == "pairs"} == {"0-1", "0-2", "1-2"}
    assert {row["size"] for row in rows if row["operation"] == "reduce_scatter"} == {"8", "64", "1024"}
    assert all(float(row["median_s"]) > 0 for row in rows)


@pytest.mark.needs_netns
def test_two_hosts_over_two_transports(jobs: Jobs, tmp_path: Path) -> None:
    figures = tmp_path / "figures.csv"
    words = ("--seconds", "1", "--max-size", "64", "--operations", "latency,reduce_scatter", "-n", "4")
    with Hosts(2) as hosts:
        places = ("-o", f"rm.hostile.networks={','.join(hosts.names)}", "-o", "rm.hostile.twice=0")
        done = bench(jobs, "hostile", *words, *places, "--transport", "shm,tcp", "--shared", "--csv", str(figures))
    assert done.code == 0, done
    assert "transport   shm inside a host: 0-2, 1-3" in done.out
    assert "transport   tcp between hosts: 0-1, 0-3, 1-2, 2-3" in done.out
    assert all(
        f"latency: workers {who} (one way" in done.out
        for who in ("0-1 over tcp between hosts", "0-2 over shm inside a host")
    )
    with figures.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["purpose"] == "pairs" and row["operation"] == "latency"]
    over = {"0-1": "tcp", "0-2": "shm", "0-3": "tcp", "1-2": "tcp", "1-3": "shm", "2-3": "tcp"}
    assert {row["between"]: row["transport"] for row in rows} == over


def test_output_has_the_table_the_figures_and_a_plot(jobs: Jobs, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    output = tmp_path / "deep" / "measured"
    done = bench(jobs, *QUICK, "--operations", "latency,barrier,allreduce", "--output", str(output))
    assert done.code == 0, done
    assert sorted(path.name for path in output.iterdir()) == ["comm.csv", "comm.json", "comm.png"]
    assert (output / "comm.png").read_bytes().startswith(b"\x89PNG")
    assert {row["operation"] for row in json.loads((output / "comm.json").read_text())["rows"]} == {
        "latency",
        "barrier",
        "allreduce",
    }
    widths = {len(line) for line in done.out.split("allreduce (")[1].splitlines()[1:4]}
    assert len(widths) == 1, done.out


def test_without_the_plot_library_everything_else_is_there(jobs: Jobs, tmp_path: Path) -> None:
    output = tmp_path / "measured"
    hidden = "import sys; sys.modules['matplotlib'] = None\nfrom twister2.cli.main import main; sys.exit(main())"
    program = jobs.program(
        "import importlib.util\nreal = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'matplotlib' else real(name, *rest)\n" + hidden
    )
    done = jobs.python(program, "bench", "comm", *QUICK, "--operations", "barrier", "--output", str(output))
    assert done.code == 0, done
    assert "pip install 'twister2-bench[plot]'" in done.err
    assert sorted(path.name for path in output.iterdir()) == ["comm.csv", "comm.json"]
    assert "barrier (no data)" in done.out


def test_arrays_that_do_not_fit_are_skipped(jobs: Jobs) -> None:
    words = ("--seconds", "0.5", "--sizes", "8,64M", "--operations", "alltoall", "-o", "job.memory_mb=400")
    done = bench(jobs, "standalone", *words, "--transport", "tcp")
    assert done.code == 0, done
    assert "skipped: its arrays would need more memory than a worker has" in done.out


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--operations", "allreduce,latenzy"), "did you mean latency?"),
        (("--sizes", "12"), "'12' is not a size that can be measured"),
        (("--max-size", "3G"), "at most 1 GiB"),
        (("--sizes", "8", "--max-size", "1K"), "contradict each other"),
        (("--seconds", "0"), "is no time to measure"),
        (("--workers", "1"), "cannot be measured with one worker"),
        (("-o", "job.workers=1"), "cannot be measured with one worker"),
        (("--transport", "pigeon"), "pigeon"),
        (("nowhere",), "nowhere"),
        (("--output", "/dev/null/x"), "cannot be written"),
        (("nowhere", "--csv", "/dev/null/x"), "cannot be written"),  # before anything else is looked at
        (("nowhere", "--csv", "no_such_folder/x"), "in a folder that exists"),
    ],
)
def test_what_is_wrong_is_said(jobs: Jobs, words: tuple[str, ...], text: str) -> None:
    done = bench(jobs, *words)
    assert done.code in (1, 2), done
    assert text in done.err, done
    assert "Traceback" not in done.err


def test_an_output_folder_with_a_file_that_cannot_be_written(jobs: Jobs, tmp_path: Path) -> None:
    (tmp_path / "measured" / "comm.png").mkdir(parents=True)
    done = bench(jobs, "nowhere", "--output", str(tmp_path / "measured"))
    assert done.code == 1, done
    assert "comm.png cannot be written" in done.err, done
    assert [path.name for path in (tmp_path / "measured").iterdir()] == ["comm.png"], "nothing is left of the look"


def test_help_names_the_operations(jobs: Jobs) -> None:
    done = bench(jobs, "--help")
    assert done.code == 0, done
    assert all(name in done.out for name in OPERATIONS)
    bare = jobs.cli("bench")
    assert bare.code == 2, bare


@pytest.mark.needs_slurm
def test_on_slurm(jobs: Jobs) -> None:
    jobs.kept += ("slurm/",)
    words = ("--seconds", "2", "--sizes", "8,64K", "-n", "3", "-o", "job.queue_deadline_s=60")
    done = bench(jobs, "slurm", *words, "--transport", "tcp")
    assert done.code == 0, done
    assert "3 workers, profile slurm" in done.out
    assert "alltoall" in done.out


def test_a_wrong_answer_is_an_error() -> None:
    from twister2.spec.errors import NetworkError
    from twister2_bench.results import Results

    row = {"operation": "allreduce", "size": 8, "between": "all", "right": False}
    facts = {"host": "h", "routes": {}, "versions": {}, "cpu": "c", "cores": 1}
    results = Results.of("standalone", [{"facts": facts, "rows": [row]}])
    with pytest.raises(NetworkError, match="wrong answers: allreduce of 8 bytes"):
        results.check()
