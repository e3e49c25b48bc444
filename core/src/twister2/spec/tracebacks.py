"""What errors show of a program: the frames of its own code, without those of this system, and its values, cut."""

from __future__ import annotations

import traceback
from typing import Any

__all__ = ["is_ours", "short", "user_line", "user_traceback"]


_TESTKIT = "twister2_testkit"
"""Its suites play the user: their functions are shown as the user's are."""


def is_ours(module: str) -> bool:
    """Whether a module belongs to this system or a plugin (``twister2``, ``twister2.*``, ``twister2_*``)."""
    package = module.partition(".")[0]
    return package != _TESTKIT and (package == "twister2" or package.startswith("twister2_"))


def short(value: Any, limit: int = 200) -> str:
    """``repr`` of a value, cut to ``limit`` characters; never raises."""
    try:
        text = repr(value)
    except Exception as error:
        text = f"<{type(value).__name__} whose repr raises {type(error).__name__}>"
    return text if len(text) <= limit else text[: limit - 3] + "..."


def user_traceback(error: BaseException, *, keep: bool = True) -> str:
    """The traceback as text, causes included, without the frames of this system and its plugins.

    :param keep: show all frames where no other ones are left, so that an error inside a plugin can be found.
    """
    shown = traceback.TracebackException.from_exception(error)
    _cut(shown, error, keep)
    return "".join(shown.format()).rstrip()


def user_line(error: BaseException) -> str:
    """``file:line in function`` of the deepest frame that is the user's or a library's; empty when there is none."""
    found = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        if not is_ours(str(frame.f_globals.get("__name__", ""))):
            found = f"{frame.f_code.co_filename}:{line} in {frame.f_code.co_name}"
    return found


def _cut(shown: traceback.TracebackException, error: BaseException, keep: bool) -> None:
    modules = [str(frame.f_globals.get("__name__", "")) for frame, _ in traceback.walk_tb(error.__traceback__)]
    if len(modules) == len(shown.stack):
        left = [frame for frame, module in zip(shown.stack, modules, strict=True) if not is_ours(module)]
        if left or not keep:
            shown.stack = traceback.StackSummary.from_list(left)
    for part, other in ((shown.__cause__, error.__cause__), (shown.__context__, error.__context__)):
        if part is not None and other is not None:
            _cut(part, other, keep)
    if isinstance(error, BaseExceptionGroup):
        for part, other in zip(shown.exceptions or (), error.exceptions, strict=False):
            _cut(part, other, keep)
