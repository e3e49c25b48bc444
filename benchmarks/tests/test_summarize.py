from __future__ import annotations

from typing import Any

import summarize
from harness.contestants import ROOT, read
from harness.workloads import WORKLOADS


def line(system: str, number: int, job_s: float, **other: Any) -> dict[str, Any]:
    return {
        "session": "2",
        "size": "small",
        "workers": 2,
        "machine": {"cores": "2"},
        "system": system,
        "round": number,
        "about": f"what {system} is",
        "versions": {"python": "3"},
        "busy_before": 0.1,
        "left_behind": 0,
        "ok": True,
        "job_s": job_s,
        **other,
    }


def test_ratios_are_paired_within_rounds() -> None:
    lines = [line("ref", 0, 1.0), line("a", 0, 2.0), line("ref", 1, 10.0), line("a", 1, 30.0), line("a", 2, 5.0)]
    assert summarize.ratios(lines, "job_s", "ref") == {"ref": [1.0, 1.0], "a": [2.0, 3.0]}


def test_only_the_last_session_counts() -> None:
    lines = [line("a", 0, 1.0, session="1"), line("a", 0, 2.0), line("a", 0, 3.0, session="0")]
    assert [each["job_s"] for each in summarize.last_session(lines)] == [2.0]


def test_of_contestants_that_stand_apart_the_last_session_of_each_counts() -> None:
    pairs = {"there and back": [3.0, 1.0]}
    lines = [
        line("slurm", 0, 1.0, session="1", pairs={"there and back": [9.0, 1.0]}),
        line("slurm", 0, 1.0, session="2", pairs=pairs),
        line("nomad", 0, 1.0, session="1", pairs=pairs),
        line("nomad", 0, 0.1, session="3", skipped="it is down"),
    ]
    counted = summarize.latest(lines, WORKLOADS["managers"])
    assert [(each["system"], each["session"]) for each in counted] == [("nomad", "1"), ("slurm", "2")]
    rows = summarize.pair_table(counted, WORKLOADS["managers"])
    assert rows[2:] == [
        f"| {system} | there and back | 3.00 s | 1.00 s | 2.00 (2.00 to 2.00) |" for system in ("nomad", "slurm")
    ]


def test_wrong_answers_are_shown_and_not_measured() -> None:
    reference = WORKLOADS["kmeans"].reference
    lines = [line(reference, 0, 1.0), line("never", 0, 0.001, ok=False), line("once", 0, 9.0, ok=False)]
    lines += [line(reference, 1, 1.0), line("once", 1, 2.0)]
    rows = summarize.table(lines, WORKLOADS["kmeans"])[2:]
    assert [row.split(" | ")[0] for row in rows] == [f"| {reference}", "| once", "| never"]
    assert rows[1].startswith("| once | 1/2 | 2.00 s | 2.00 s | 2.00 s | 2.00 (2.00 to 2.00) |")
    assert rows[2].startswith("| never | 0/1 | - |")


def test_every_contestant_describes_itself_and_every_reference_exists() -> None:
    scripts = sorted(ROOT.glob("workloads/*/*.py"))
    found = {(contestant.workload, contestant.system) for contestant in map(read, scripts)}
    assert len(found) == len(scripts)
    assert {(name, workload.reference) for name, workload in WORKLOADS.items()} <= found
    for contestant in map(read, scripts):
        assert (ROOT / "requirements" / f"{contestant.venv}.txt").exists()
        assert contestant.command(size="small", workers=2, spawned=0.0)[-4:-2] == ["size=small", "workers=2"]


def test_checks_refuse_wrong_answers(monkeypatch: Any) -> None:
    expected = {
        "startup": 42,
        "wordcount": {"top": [["a", 2]], "total": 3},
        "kmeans": [[0.0, 1.0], [2.0, 3.0]],
        "join": {"rows": 2, "left": 1.5},
        "groupby": {"groups": 2, "sum": 1.5},
    }
    monkeypatch.setattr("harness.workloads._expected", lambda workload, size: expected[workload])
    wrong = {
        "startup": [41, None],
        "wordcount": [{"top": [["a", 2]], "total": 4}, {"total": 3}],
        "kmeans": [[[0.0, 1.0], [2.0, 3.1]], [[0.0, 1.0]], [[0.0], [2.0]]],
        "join": [{"rows": 3, "left": 1.5}, {"rows": 2, "left": 1.6}, {"rows": 2}],
        "groupby": [{"groups": 2, "sum": 1.4}, {"groups": 2, "sum": 1.5, "more": 1}],
    }
    for name, workload in WORKLOADS.items():
        if workload.unit:
            assert workload.check({"right": True}, "small") == ""
            assert workload.check({"right": False}, "small")
            continue
        if name == "terasort":  # looks at files: see below
            continue
        assert workload.check(expected[name], "small") == ""
        assert all(workload.check(answer, "small") for answer in wrong[name])


def test_cases_are_shown_with_ratios_to_the_reference_within_rounds() -> None:
    workload = WORKLOADS["collectives"]
    figures = [(workload.reference, 0, 1e-6), ("ours", 0, 2e-6), (workload.reference, 1, 4e-3), ("ours", 1, 2e-3)]
    lines = [line(name, number, 1.0, figures={"allreduce 8 B": value}) for name, number, value in figures]
    rows = summarize.case_table([*lines, line("broken", 0, 1.0, ok=False, figures={"allreduce 8 B": 1.0})], workload)
    assert rows[0] == f"| case | {workload.reference} | broken (ratio) | ours (ratio) |"
    assert rows[2] == "| allreduce 8 B | 2.00 ms | - | 1.00 ms (1.25) |"


def test_pairs_are_shown_side_by_side() -> None:
    lines = [line("tuples", number, 1.0, pairs={"(int, int)": pair}) for number, pair in enumerate([[3, 2], [2, 4]])]
    row = summarize.pair_table(lines, WORKLOADS["keyed_partition"])[2]
    assert row == "| tuples | (int, int) | 2.50 | 3.00 | 1.00 (0.50 to 1.50) |"
    assert "Not counted: tuples failed in round 7." in summarize.tables(
        [*lines, line("tuples", 7, 1.0, ok=False)], WORKLOADS["keyed_partition"]
    )


def test_only_contestants_with_pairs_are_shown_side_by_side() -> None:
    lines = [line("ours", 0, 1.0, figures={"call": 2e-6}, pairs={"loops": [2.0, 1.0]})]
    lines += [line(WORKLOADS["iteration"].reference, 0, 1.0, figures={"call": 1e-6})]
    rows = summarize.tables(lines, WORKLOADS["iteration"])
    assert rows[2] == "| call | 1.00 us | 2.00 us (2.00) |"
    assert rows[-1] == "| ours | loops | 2.00 s | 1.00 s | 2.00 (2.00 to 2.00) |"


def test_a_worker_above_its_limit_is_a_failure(monkeypatch: Any) -> None:
    monkeypatch.setattr("harness.workloads._expected", lambda workload, size: {"records": 0, "checksum": 0})
    monkeypatch.setattr("harness.workloads.VENVS", ROOT / "no such folder")
    check = WORKLOADS["terasort"].check
    answer = {"folder": "here", "limit_mb": 300, "resident_mb": [299.0, 301.0]}
    assert check(answer, "small") == "a worker had 301 MB resident, more than 300"
