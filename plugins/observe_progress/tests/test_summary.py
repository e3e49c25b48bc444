"""The table at the end of a job."""

from __future__ import annotations

import io
import pathlib
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twister2.spec.observe import JobFacts, Progress
from twister2_observe_progress.displays import LineDisplay, TerminalDisplay, display_for
from twister2_observe_progress.summary import ROWS, table
from twister2_observe_progress.view import JobView
from twister2_testkit.screen import Screen

FACTS = JobFacts("wc-1", "words", 2, "standalone", "words.py")

FINAL = {
    0: {
        "words: lines": {"runs": 2.0, "records": 1000.0, "bytes": 5e6, "busy_s": 1.0},
        "words: count": {"runs": 2.0, "records": 10.0, "busy_s": 0.5, "waiting_s": 3.0, "blocked_s": 70.0},
    },
    1: {"words: lines": {"runs": 2.0, "records": 500.0, "bytes": 1e6, "busy_s": 4.0}},
}


def final(worker, counters, attempt=1):
    return Progress(worker, attempt, "", 0.0, None, "", counters, 0, True, 2)


def test_workers_are_summed_and_the_busiest_is_named():
    titles, lines, count = table(FINAL)
    assert titles.split() == ["vertex", "runs", "records", "bytes", "busy", "busiest", "worker", "waiting", "blocked"]
    assert " ".join(lines.split()) == "words: lines 2 1.50k 6.00MB 5.0 s 1 (4.0 s) 0 0"
    assert " ".join(count.split()) == "words: count 2 10 0B 500 ms 0 (500 ms) 3.0 s 1 min 10 s"


def test_the_least_busy_are_left_out():
    counters = {f"v{k}": {"busy_s": float(k), "runs": 1.0} for k in range(ROWS + 5)}
    lines = table({0: counters})
    assert len(lines) == ROWS + 2
    assert lines[1].startswith("v5 ")
    assert lines[-1] == "... and 5 vertices that were less busy"


def test_nothing_is_shown_of_a_job_without_graphs():
    assert table({}) == table({0: {}}) == []


@given(
    st.dictionaries(
        st.integers(0, 3),
        st.dictionaries(
            st.text(max_size=80), st.dictionaries(st.sampled_from(["busy_s", "records", "bytes"]), st.floats(0, 1e9))
        ),
    )
)
def test_any_names_make_straight_columns(counters):
    lines = table(counters)
    assert not any(char in line for line in lines for char in "\x1b\n\r\t")
    assert len({len(line) for line in lines if not line.startswith("...")}) <= 1


@pytest.mark.parametrize("kind", [LineDisplay, TerminalDisplay])
@pytest.mark.parametrize("summary", [True, False])
def test_displays_show_it_before_the_last_line(kind, summary):
    view, stream = JobView(FACTS), Screen(200)
    display = kind(view, stream, **({"interval_s": 10.0} if kind is LineDisplay else {}), summary=summary)
    for worker, counters in FINAL.items():
        view.take(final(worker, counters))
    assert view.read() == (0, 0), "sums of the whole job are no rates"
    display.end("completed", "", 1.0)
    lines = stream.lines[:-1]
    assert len(lines) == (4 if summary else 1)
    assert "COMPLETED" in lines[-1]


def test_what_an_attempt_before_did_is_forgotten():
    view = JobView(FACTS)
    view.start_attempt(1, 2)
    view.take(final(0, FINAL[0]))
    view.start_attempt(2, 2)
    view.take(final(1, FINAL[1], attempt=2))
    assert list(view.final) == [1]


@pytest.mark.parametrize(("wanted", "shows"), [("always", True), ("never", False), ("auto", False)])
def test_auto_is_for_terminals(wanted, shows):
    view, stream = JobView(FACTS), io.StringIO()
    view.take(final(0, FINAL[0]))
    display_for(view, stream, "lines", 10.0, wanted).end("completed", "", 1.0)
    assert ("vertex" in stream.getvalue()) is shows


PROGRAM = """
from twister2_tset import TSetContext

def main(env):
    numbers = TSetContext(env, name="numbers").parallelize(range(1000))
    for _ in range(3):
        assert numbers.map(lambda x: x + 1).reduce(lambda a, b: a + b) == 500500
"""


def test_a_job_prints_it(tmp_path: pathlib.Path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, "-m", "twister2", "submit", "-o", "job.observe=progress"]
    command += ["-o", "observe.progress.summary=always", "standalone", "-n", "2", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=80, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [line.removeprefix("twister2: ") for line in done.stderr.splitlines()]
    begin = next(k for k, line in enumerate(lines) if line.startswith("vertex "))
    rows = [line.split() for line in lines[begin + 1 : -1]]
    assert any("numbers:" in row and "3" in row and "1.00k" not in row for row in rows), done.stderr
    assert "COMPLETED" in lines[-1]
