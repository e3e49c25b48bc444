from __future__ import annotations

import io
import os
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twister2.spec.environment import WorkerEvent
from twister2.spec.observe import JobFacts, Progress
from twister2_observe_progress.config import ProgressConfig
from twister2_observe_progress.displays import LineDisplay, TerminalDisplay
from twister2_observe_progress.plugin import ProgressPlugin
from twister2_observe_progress.text import amount, headline, last_line, span, work
from twister2_observe_progress.view import JobView
from twister2_testkit.screen import Screen

FACTS = JobFacts("wc-1", "words", 2, "standalone", "words.py")


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def report(worker=0, attempt=1, step="", done=0.0, total=None, unit="", counters=None, memory=0):
    return Progress(worker, attempt, step, done, total, unit, counters or {}, memory)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (999, "999"), (1000, "1.00k"), (12_345, "12.3k"), (999_600, "1.00M"), (4.5e8, "450M"), (0.25, "0.25")],
)
def test_amount(value, text):
    assert amount(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (59.94, "59.9 s"), (59.96, "1 min 00 s"), (3725, "1 h 02 min")]
)
def test_span(seconds, text):
    assert span(seconds) == text


@given(st.floats(0, 1e17))
def test_amounts_are_short(value):
    assert len(amount(value)) <= 6


def test_rates_are_of_the_busiest_edge_over_all_workers():
    clock = Clock()
    view = JobView(FACTS, clock)
    view.start_attempt(1, 2)
    for second in range(5):
        clock.now = 100.0 + second
        for worker in range(2):
            counters = {"read": {"records": 10 * second, "bytes": 500 * second}, "split": {"records": 100 * second}}
            view.take(report(worker, step="run words", counters=counters, memory=1000))
    assert view.totals() == {"records": 800, "bytes": 4000}
    assert view.rates()["records"] == pytest.approx(200, rel=0.3)
    assert view.memory == 2000
    assert work(view, bar=False).startswith("run words ")
    assert "records/s" in work(view, bar=False)


def test_counters_of_several_graphs_add_up():
    view = JobView(FACTS)
    for records in (5, 10, 3, 4):
        view.take(report(counters={"map": {"records": records}}))
    assert view.totals()["records"] == 14


def test_done_is_summed_and_a_total_needs_all_workers():
    view = JobView(FACTS)
    view.start_attempt(1, 2)
    view.take(report(0, done=10, total=40, unit="files"))
    assert view.done() == (10, None, "files")
    view.take(report(1, done=20, total=60, unit="files"))
    assert view.done() == (30, 100, "files")
    assert "30 % (30/100 files)" in work(view, bar=True)
    view.take(report(1, counters={"map": {"records": 1}}, step="run x"))
    assert view.done() == (30, 100, "files"), "a report of counters says nothing of done"


def test_late_reports_of_an_older_attempt_are_dropped():
    view = JobView(FACTS)
    view.start_attempt(1, 2)
    view.take(report(done=5))
    view.start_attempt(2, 2)
    view.take(report(attempt=1, done=7))
    assert view.done() is None
    assert "attempt 2" in headline(view)


def test_lines_are_quiet():
    clock, out = Clock(), io.StringIO()
    view = JobView(FACTS, clock)
    display = LineDisplay(view, out, 10.0, clock)
    for state in ("queued", "queued", "starting", "running", "running"):
        view.state = state
        display.changed()
    for _ in range(250):
        clock.now += 0.1
        view.take(report(done=1, total=4))
        display.progressed()
        display.step_aside()
    display.end("completed", "", 25.0)
    lines = out.getvalue().splitlines()
    assert len(lines) == 3 + 1, "at 2, 12 and 22 seconds, and the end"
    assert all("RUNNING" in line for line in lines[:-1])
    assert "\x1b" not in out.getvalue()
    assert lines[-1] == "twister2: words COMPLETED in 25.0 s: 2 workers"


def test_short_jobs_print_one_line():
    clock, out = Clock(), io.StringIO()
    view = JobView(FACTS, clock)
    display = LineDisplay(view, out, 10.0, clock)
    for state in ("queued", "starting", "running"):
        clock.now += 0.3
        view.state, view.reason = state, "workers are joining" if state == "starting" else ""
        display.changed()
        view.take(report(counters={"vertex read": {"records": 1}}))
        display.progressed()
    display.end("completed", "", 0.9)
    assert out.getvalue() == "twister2: words COMPLETED in 0.9 s: 2 workers\n"


def test_waiting_and_restarts_are_told_at_once():
    clock, out = Clock(), io.StringIO()
    view = JobView(FACTS, clock)
    display = LineDisplay(view, out, 10.0, clock)
    view.reason = "waits for nodes"
    display.changed()
    display.changed()
    view.state, view.reason = "running", ""
    view.start_attempt(1, 2)
    display.changed()
    view.start_attempt(2, 2)
    display.changed()
    first, second = out.getvalue().splitlines()
    assert "QUEUED" in first
    assert "waits for nodes" in first
    assert "attempt 2" in second


def test_the_last_line_counts_what_was_read_and_nothing_twice():
    view = JobView(FACTS)
    for worker in range(2):
        read = {"records": 7, "bytes": 900, "records_read": 600, "bytes_read": 45_000}
        counters = {"vertex read": read, "edge 0 read->split": {"records": 600}, "vertex split": {"records": 9999}}
        view.take(report(worker, counters=counters))
        view.take(report(worker, counters={"vertex cached": {"records": 5000}}))
    assert last_line(view, "completed", "", 1.0) == ("words COMPLETED in 1.0 s: 2 workers, 1.20k records (90.0kB) read")


def test_the_terminal_keeps_what_others_print():
    clock, screen = Clock(), Screen()
    view = JobView(FACTS, clock)
    display = TerminalDisplay(view, screen, clock)
    printed = []
    for number in range(60):
        clock.now += 0.07
        view.state = ("starting", "running")[number > 3]
        view.take(report(done=number, total=60, step="run " + "long " * (number % 40)))
        (display.changed if number % 7 == 0 else display.progressed)()
        if number % 3 == 0:
            display.output(f"line {number}\n")
            screen.write(f"line {number}\n")
            printed.append(f"line {number}")
        assert all(len(line) < 80 for line in screen.lines)
    display.end("failed", "it broke", 3.0)
    assert screen.lines == [*printed, "words FAILED in 3.0 s: 2 workers; it broke", ""]


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            st.sampled_from(["changed", "progressed", "aside"]),
            st.lists(st.sampled_from(["x", "yz " * 40, "\n", "50 %"]), min_size=1).map("".join),
        )
    )
)
def test_what_others_print_is_on_the_terminal_as_without_a_display(actions):
    """Pieces of lines, too: no byte is drawn over, moved or parted from its line."""
    clock, screen, alone = Clock(), Screen(), Screen()
    view = JobView(FACTS, clock)
    view.state = "running"
    display = TerminalDisplay(view, screen, clock)
    for number, action in enumerate(actions):
        clock.now += 0.07
        view.take(report(done=number, total=60, step="run words"))
        if action in ("changed", "progressed"):
            getattr(display, action)()
        elif action == "aside":
            display.step_aside()
        else:
            display.output(action)
            screen.write(action)
            alone.write(action)
    display.end("completed", "", 1.0)
    ended = alone.lines if not alone.lines[-1] else [*alone.lines, ""]
    assert screen.lines == [*ended[:-1], "words COMPLETED in 1.0 s: 2 workers", ""]


def test_a_display_that_is_late_draws_over_nothing():
    """The client waits for it to step aside, but not for ever."""
    screen = Screen()
    display = TerminalDisplay(JobView(FACTS), screen, Clock())
    display.changed()
    screen.write(f"{'text of the program':<79}\n")
    display.output("text of the program\n")
    display.changed()
    display.end("completed", "", 1.0)
    assert [line.rstrip() for line in screen.lines] == [
        "text of the program",
        "words COMPLETED in 1.0 s: 2 workers",
        "",
    ]


@pytest.fixture
def known_width(monkeypatch):
    """A terminal that tells how wide it is."""

    def told(screen):
        monkeypatch.setattr("os.get_terminal_size", lambda descriptor: os.terminal_size((screen.columns, 25)))
        screen.fileno = lambda: 2
        return screen

    return told


LATE = st.lists(
    st.one_of(
        st.sampled_from(["draw", "hears", "hears all"]),
        st.sampled_from(["", "\n", " " * 75, "-" * 79 + "\n", "-" * 80]),
    ),
    max_size=30,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LATE)
def test_a_display_that_is_late_draws_over_no_line_that_was_begun(known_width, actions):
    """It hears of what was shown later than it draws: each word stays readable, in order."""
    clock, screen = Clock(), known_width(Screen())
    view = JobView(FACTS, clock)
    view.state = "running"
    display = TerminalDisplay(view, screen, clock)
    shown, words = [], 0
    for action in actions:
        clock.now += 0.2
        if action == "draw":
            display.changed()
        elif action in ("hears", "hears all"):
            for text in shown[: None if action == "hears all" else 1]:
                display.output(text)
            del shown[: None if action == "hears all" else 1]
        else:
            text = f"<{words}>{action}"
            words += 1
            screen.write(text)
            shown.append(text)
    for text in shown:
        display.output(text)
    display.end("completed", "", 1.0)
    assert re.findall(r"<\d+>", "".join(screen.lines)) == [f"<{number}>" for number in range(words)]
    assert "words COMPLETED" in screen.lines[-2]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.sampled_from(["draw", "aside"]),
            st.integers(12, 120),
            st.lists(st.sampled_from(["x", "yz " * 30, "\n", "50 %"]), min_size=1).map("".join),
        ),
        max_size=40,
    )
)
def test_a_terminal_that_changes_its_width_keeps_all_lines(known_width, actions):
    clock, screen, alone = Clock(), known_width(Screen()), Screen()
    view = JobView(FACTS, clock)
    view.state = "running"
    display = TerminalDisplay(view, screen, clock)
    for number, action in enumerate(actions):
        clock.now += 0.2
        view.take(report(done=number, total=60, step="run words " + "and more " * (number % 9)))
        if action == "draw":
            display.changed()
        elif action == "aside":
            display.step_aside()
        elif isinstance(action, int):
            screen.resize(action)
            alone.resize(action)
        else:
            display.output(action)
            screen.write(action)
            alone.write(action)
    display.end("completed", "", 1.0)
    end = "words COMPLETED in 1.0 s: 2 workers"
    wanted = [*(alone.lines if alone.lines[-1] else alone.lines[:-1])]
    wanted += [end[start : start + screen.columns] for start in range(0, len(end), screen.columns)]
    assert [line.rstrip() for line in screen.lines] == [line.rstrip() for line in [*wanted, ""]]


@pytest.mark.parametrize("begun", ["", "t", "total: ", "x" * 79, "x" * 80, "x" * 100])
@pytest.mark.parametrize("drawn", [False, True])
def test_a_line_that_was_begun_before_the_job_stays(begun, drawn):
    """``print("total: ", end="")`` and then ``print(twister2.run(...))``."""
    screen = Screen()
    screen.write("before\n" + begun)
    display = TerminalDisplay(JobView(FACTS), screen, Clock())
    if drawn:
        display.changed()
    display.end("completed", "", 1.0)
    lines = [line.rstrip() for line in screen.lines]
    kept = [begun[start : start + 80].rstrip() for start in range(0, len(begun), 80)]
    assert lines[: 1 + len(kept)] == ["before", *kept]
    assert "COMPLETED" in lines[1 + len(kept)]


def test_colours_after_the_end_of_a_line_begin_none():
    screen = Screen()
    display = TerminalDisplay(JobView(FACTS), screen, Clock())
    for text in ("red\x1b[31m\n\x1b[0m", "\x1b[0m", ""):
        display.output(text)
    display.changed()
    assert "words" in screen.lines[0]


def test_names_and_reasons_cannot_move_the_cursor():
    view = JobView(JobFacts("j", "a\x1b[2Jb\nc", 1, "standalone", "p"))
    view.reason = "x\ry"
    for text in (headline(view), last_line(view, "failed", "\x07", 1.0)):
        assert text.isprintable()


def test_long_reasons_are_cut():
    view = JobView(JobFacts("j", "words", 1, "standalone", "p"))
    view.reason = "begin" + "x" * 100_000
    for text in (headline(view), last_line(view, "failed", view.reason, 1.0)):
        assert "begin" in text
        assert "..." in text
        assert len(text) < 300


@pytest.mark.parametrize("display", ["auto", "terminal", "lines"])
def test_the_plugin_from_start_to_end(display, capsys):
    plugin = ProgressPlugin()
    plugin.observe_start(ProgressConfig(display=display), FACTS)
    plugin.job_state("wc-1", "queued", "waits for free nodes (Resources)")
    plugin.worker_event("wc-1", WorkerEvent("joined", 0, 1))
    plugin.attempt_started("wc-1", 1, 2)
    plugin.job_state("wc-1", "running", "")
    plugin.progress("wc-1", report(done=1, total=2, memory=5_000_000))
    plugin.worker_event("wc-1", WorkerEvent("lost", 1, 1))
    plugin.checkpoint_committed("wc-1", 3)
    plugin.output("wc-1", 0, "stdout", "hello\n")
    plugin.job_state("wc-1", "completed", "")
    plugin.job_ended("wc-1", "completed", "", 1.25)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "waits for free nodes" in captured.err
    assert captured.err.splitlines()[-1].endswith("words COMPLETED in 1.2 s: 2 workers")
    assert ("\x1b[" in captured.err) == (display == "terminal")
