"""Pytest plugin: conformance tests never skip without a reason, and each plugin gets a summary of its conformance.

The summary tells, per test class, how many tests of the suite passed, and every skip with its reason.
"""

from __future__ import annotations

import pkgutil
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

# The package itself is imported already, and its modules are where the assertions are.
pytest.register_assert_rewrite(
    *(f"twister2_testkit.{module.name}" for module in pkgutil.iter_modules([str(Path(__file__).parent)]))
)

PROPERTY = "twister2.conformance"
"""User property of a test report that belongs to a conformance suite: the label of its test class."""

NO_REASON = ("", "unconditional skip")


MARKERS = (
    "slow: takes more than ten seconds; leave out with -m 'not slow'",
    "faults: kills, stops or starves processes on purpose",
    "timeout(seconds): ends after so long, where pytest-timeout is installed",
    "needs_mount: mounts small file systems; skips itself where that is not allowed",
)
"""Marks that tests of the suites bear."""


def pytest_configure(config: pytest.Config) -> None:
    """Make the suites' marks known, also where --strict-markers is set."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)


def suite_label(item: pytest.Item) -> str | None:
    """``"path::Class (Suite)"`` of a test that a plugin inherited from a suite, None for other tests."""
    from twister2_testkit.capabilities import ConformanceSuite

    cls = getattr(item, "cls", None)
    if not isinstance(cls, type) or not issubclass(cls, ConformanceSuite):
        return None
    suites = [base.__name__ for base in cls.__mro__[1:] if base.__module__.startswith("twister2_testkit.")]
    suite = next((name for name in suites if name != ConformanceSuite.__name__), ConformanceSuite.__name__)
    return f"{item.nodeid.split('::')[0]}::{cls.__name__} ({suite})"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note which reports belong to a suite; turn a skip without a reason into a failure."""
    report = yield
    label = suite_label(item)
    if label is not None:
        report.user_properties.append((PROPERTY, label))
        if report.skipped and not hasattr(report, "wasxfail") and skip_reason(report) in NO_REASON:
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid}: a conformance test was skipped without a reason"
    return report


def skip_reason(report: pytest.TestReport) -> str:
    """The text of a skip, without pytest's own ``Skipped:``."""
    longrepr = report.longrepr
    text = str(longrepr[2]) if isinstance(longrepr, tuple) else str(longrepr or "")
    return text.removeprefix("Skipped").removeprefix(":").strip()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One block per conformance class: what passed, what failed, what was skipped and why."""
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in ("passed", "failed", "skipped", "error"):
        for report in terminalreporter.stats.get(outcome, []):
            label = dict(getattr(report, "user_properties", ())).get(PROPERTY)
            if label is None or (outcome == "passed" and report.when != "call"):
                continue
            outcomes[label][outcome] += 1
            if outcome == "skipped":
                reasons[label][skip_reason(report)] += 1
    if not outcomes:
        return
    terminalreporter.section("conformance")
    for label in sorted(outcomes):
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes[label].items()))
        terminalreporter.line(f"{label}: {counts}")
        for reason, count in sorted(reasons[label].items()):
            terminalreporter.line(f"    {count} skipped: {reason}")
