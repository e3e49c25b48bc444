"""Tracebacks for people: which frames stay."""

from __future__ import annotations

import pytest

from twister2.graph import walking
from twister2.spec.tracebacks import is_ours, user_line, user_traceback


def call(function, module):
    """Call a function from a frame of a module of that name."""
    namespace = {"__name__": module}
    exec(compile("def run(function):\n    return function()", f"/there/{module}.py", "exec"), namespace)
    return lambda: namespace["run"](function)


def fail():
    raise ValueError("seven is missing")


def caught(function):
    with pytest.raises(Exception, match="seven") as info:
        function()
    return info.value


def test_frames_of_this_system_and_of_plugins_are_left_out():
    ours = call(call(fail, "twister2_tset.narrow"), "twister2.graph.runtime.runner")
    error = caught(call(ours, "library"))
    text = user_traceback(error)
    assert "in fail" in text
    assert "/there/library.py" in text
    assert "/there/twister2" not in text
    assert "in fail" in user_line(error)


def test_an_error_that_is_all_ours_keeps_its_frames_unless_told():
    error = ValueError("seven")
    namespace = {"__name__": "twister2_data_file.reader", "error": error}
    with pytest.raises(ValueError, match="seven"):
        exec(compile("raise error", "/there/reader.py", "exec"), namespace)
    error.__traceback__ = error.__traceback__.tb_next
    assert "/there/reader.py" in user_traceback(error)
    assert "/there/reader.py" not in user_traceback(error, keep=False)
    assert "ValueError: seven" in user_traceback(error, keep=False)
    assert user_line(error) == ""


def test_causes_and_groups_are_cut_as_well():
    def chained():
        try:
            call(fail, "twister2_net.keyed")()
        except ValueError as error:
            raise ExceptionGroup("seven", [error]) from error

    text = user_traceback(caught(chained))
    assert "in chained" in text
    assert text.count("ValueError: seven is missing") == 2
    assert "/there/twister2" not in text


@pytest.mark.parametrize("raised", [ValueError, StopIteration, SystemExit])
def test_walking_notes_the_record(raised):
    from twister2.graph.records import place_of

    def step(record):
        if record == 2:
            raise raised("here")

    def walked():
        with walking([1, 2, 3]) as walk:
            for record in walk:
                step(record)

    with pytest.raises(raised) as info:
        walked()
    assert place_of(info.value).index == 1


@pytest.mark.parametrize(
    ("module", "expected"),
    [("twister2", True), ("twister2.graph", True), ("twister2_net.keyed", True), ("twister22", False), ("job", False)],
)
def test_whose_a_module_is(module, expected):
    assert is_ours(module) is expected
