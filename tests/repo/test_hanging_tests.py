"""No test hangs a run: one whose timeout changes nothing is named, and the others run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[2] / "conftest.py"

# The watch of the real runs, with a shorter grace.
LOADER = """
import importlib.util, sys

spec = importlib.util.spec_from_file_location("watch", {path!r})
watch = importlib.util.module_from_spec(spec)
spec.loader.exec_module(watch)
watch.GRACE_S = 6.0
globals().update({{name: value for name, value in vars(watch).items() if name.startswith("pytest_")}})
"""

TESTS = """
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.fixture
def never_tidy():
    yield
    while True:
        time.sleep(1)


@pytest.mark.timeout(1)
def test_swallows_its_timeout():
    while True:
        try:
            time.sleep(1)
        except BaseException:
            pass


def test_fails_and_then_hangs(never_tidy):
    raise AssertionError("the failure that is shown")


@pytest.mark.timeout(1)
@settings(deadline=None)
@given(st.integers())
def test_is_tried_with_many_values(value):
    time.sleep(0.4)


def test_is_right():
    pass
"""


@pytest.mark.timeout(180)  # three processes of pytest, one after the other
def test_a_test_that_cannot_be_ended_ends_its_process_and_is_named(tmp_path):
    (tmp_path / "conftest.py").write_text(LOADER.format(path=str(CONFTEST)))
    (tmp_path / "test_some.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\ntimeout = 5\n")
    command = [sys.executable, "-m", "pytest", "-n", "1", "-p", "no:cacheprovider", "-p", "no:twister2_testkit", "-rA"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=150, check=False)
    shown = done.stdout + done.stderr
    assert done.returncode == 1, shown
    assert "crashed while running 'test_some.py::test_swallows_its_timeout'" in shown
    assert "crashed while running 'test_some.py::test_fails_and_then_hangs'" in shown
    assert "the failure that is shown" in shown
    assert "in never_tidy" in shown, "the stacks of the process that was ended are shown"
    assert "PASSED test_some.py::test_is_right" in shown
    assert "FAILED test_some.py::test_is_tried_with_many_values" in shown, "once, and not with other values after it"


LONG = """
def test_long_lists():
    left = [f"record {(number * 7919) % 5003} of many, by {(number * 104729) % 4999}" for number in range(4000)]
    right = [f"record {(number * 7907) % 5003} of many, by {(number * 104723) % 4999}" for number in range(4000)]
    assert left == right
"""


def test_a_difference_of_long_values_is_shown_at_once(tmp_path):
    (tmp_path / "conftest.py").write_text(LOADER.format(path=str(CONFTEST)))
    (tmp_path / "test_some.py").write_text(LONG)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:twister2_testkit"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "CI": "true"},
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "At index 1 diff: 'record 2916 of many, by 4749' != 'record 2904 of many, by 4743'" in done.stdout
