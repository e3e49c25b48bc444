"""Every public method of sets and groups is in a test with random data, or is named here with the tests that it has."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from twister2_tset import TSet
from twister2_tset.grouping import Grouped

HERE = Path(__file__).parent
ELSEWHERE = {
    "agg": "test_operations.py",
    "for_each": "test_sets.py",
    "lazy_for_each": "test_actions.py",
    "save": "test_files.py",
    "show": "test_what_is_meant.py",
    "sink": "test_actions.py",
}
"""Methods whose tests have data of their own: what most of them do is outside of a set."""


def methods(kind):
    return {name for name in dir(kind) if not name.startswith("_") and callable(getattr(kind, name))}


def used_by(nodes):
    return {one.attr for node in nodes for one in ast.walk(node) if isinstance(one, ast.Attribute)}


def statements(path):
    return ast.parse(path.read_text(encoding="utf-8")).body


def has_random_data(node):
    """Whether it is a table of steps, or a test that hypothesis gives data to."""
    if isinstance(node, ast.Assign):
        return isinstance(node.value, ast.Dict)
    return isinstance(node, ast.FunctionDef) and any(
        isinstance(one, ast.Call) and getattr(one.func, "id", "") == "given" for one in node.decorator_list
    )


@pytest.mark.parametrize("kind", [TSet, Grouped])
def test_every_method_is_tested_with_random_data_or_has_tests_of_its_own(kind):
    nodes = [node for path in HERE.glob("test_*.py") for node in statements(path) if has_random_data(node)]
    assert methods(kind) - used_by(nodes) <= set(ELSEWHERE)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_the_tests_named_here_are_there(name):
    assert name in used_by(statements(HERE / ELSEWHERE[name]))
    assert name in methods(TSet) | methods(Grouped)
