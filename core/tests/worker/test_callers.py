"""Which line of the program a call of ours is told by."""

from __future__ import annotations

import sys
from types import FrameType

import pytest

from twister2.worker import callers, interrupt


def frame_below(module: str) -> FrameType:
    """A frame of a function of a module of this name, called from here."""
    code: dict[str, object] = {"__name__": module, "sys": sys}
    exec("def frame():\n    return sys._getframe()", code)
    return code["frame"]()  # type: ignore[operator, no-any-return]


def line_from(module: str) -> str:
    """What :func:`caller_line` says when it is asked by a function of a module of this name."""
    code: dict[str, object] = {"__name__": module, "asked": callers.caller_line}
    exec(compile("def call():\n    return asked(1)", f"/of/{module}.py", "exec"), code)
    return code["call"]()  # type: ignore[operator, no-any-return]


@pytest.mark.parametrize(
    ("module", "ours"),
    [
        ("twister2", True),
        ("twister2.graph.model", True),
        ("twister2_net.operators", True),
        ("twister2_acme", True),
        ("twister2things", False),
        ("__mp_main__", False),
    ],
)
def test_lines_and_interrupts_agree_on_what_is_ours(module: str, ours: bool) -> None:
    assert line_from(module).startswith(__file__ if ours else f"/of/{module}.py:")
    assert interrupt.runs_ours(frame_below(module)) is ours


def test_the_testkit_stands_between_a_program_and_the_system_or_plays_the_user() -> None:
    assert line_from("twister2_testkit.fakes").startswith(__file__)
    assert not interrupt.runs_ours(frame_below("twister2_testkit.ops"))
