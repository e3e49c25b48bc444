"""Where in the user's program a step of a set was written."""

from __future__ import annotations

import inspect
import os
import sys
from typing import Any

from twister2.spec.tracebacks import is_ours


def caller_line() -> str:
    """``file.py:12`` of the innermost frame outside this system's packages."""
    frame = sys._getframe(1)
    while frame.f_back is not None and is_ours(str(frame.f_globals.get("__name__", ""))):
        frame = frame.f_back
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"


def line_of(function: Any) -> str:
    """``file.py:12 in name``: where a function was written; empty for what was not written in Python."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return "" if code is None else f"{code.co_filename}:{code.co_firstlineno} in {code.co_qualname}"
