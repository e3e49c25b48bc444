"""What errors show of a program: the frames of its own code, without those of this system, and its values, cut."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import traceback
    import types
    from collections.abc import Iterator

__all__ = ["frames", "is_ours", "module_of", "short", "user_line", "user_traceback"]


_TESTKIT = "twister2_testkit"


def is_ours(module: str, *, testkit: bool = False) -> bool:
    """Whether a module belongs to this system or a plugin (``twister2``, ``twister2.*``, ``twister2_*``): what of a
    stack is the program's, for errors, for the lines that steps are told by, and for interrupts.

    :param testkit: count the testkit, too: what it pretends stands between a program and this system. Without it, its
        suites play the user, and their functions are shown as the user's are.
    """
    package = module.partition(".")[0]
    return (testkit or package != _TESTKIT) and (package == "twister2" or package.startswith("twister2_"))


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
    import traceback  # of workers, and of what failed: a submission has no use for it

    shown = traceback.TracebackException.from_exception(error)
    _cut(shown, error, keep)
    return "".join(shown.format()).rstrip()


def user_line(error: BaseException) -> str:
    """``file:line in function`` of the deepest frame that is the user's or a library's; empty when there is none."""
    found = ""
    for at in frames(error):
        if not is_ours(module_of(at)):
            code = at.tb_frame.f_code
            found = f"{code.co_filename}:{at.tb_lineno} in {code.co_name}"
    return found


def frames(error: BaseException) -> Iterator[types.TracebackType]:
    """The entries of its traceback, the outermost first; imports nothing, and so needs no descriptor."""
    at = error.__traceback__
    while at is not None:
        yield at
        at = at.tb_next


def module_of(at: types.TracebackType) -> str:
    """The module whose code a frame runs."""
    return str(at.tb_frame.f_globals.get("__name__", ""))


def _cut(shown: traceback.TracebackException, error: BaseException, keep: bool) -> None:
    modules = [module_of(at) for at in frames(error)]
    if len(modules) == len(shown.stack):
        left = [frame for frame, module in zip(shown.stack, modules, strict=True) if not is_ours(module)]
        if left or not keep:
            shown.stack = type(shown.stack).from_list(left)
    for part, other in ((shown.__cause__, error.__cause__), (shown.__context__, error.__context__)):
        if part is not None and other is not None:
            _cut(part, other, keep)
    if isinstance(error, BaseExceptionGroup):
        for part, other in zip(shown.exceptions or (), error.exceptions, strict=False):
            _cut(part, other, keep)
