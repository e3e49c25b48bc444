"""``TWISTER2_TRACE_HOOKS=1``: print every hook call to stderr. Values are left out, they may be secret."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pluggy

    from twister2.host.records import PluginRecord

VARIABLE = "TWISTER2_TRACE_HOOKS"


def wanted() -> bool:
    """Whether hook calls shall be printed."""
    return os.environ.get(VARIABLE, "") not in ("", "0")


def trace(manager: pluggy.PluginManager, record: PluginRecord) -> None:
    """Print the hook calls of one plugin from now on."""
    began: list[float] = []

    def before(hook_name: str, hook_impls: Any, kwargs: Any) -> None:
        began.append(time.perf_counter())

    def after(outcome: pluggy.Result[Any], hook_name: str, hook_impls: Any, kwargs: Any) -> None:
        took_ms = 1e3 * (time.perf_counter() - began.pop())
        arguments = ", ".join(f"{name}=<{type(value).__name__}>" for name, value in kwargs.items())
        error = outcome.exception
        result = f"raised {type(error).__name__}" if error else f"gave <{type(outcome.get_result()).__name__}>"
        print(
            f"[hook] {record.kind}.{record.name} {hook_name}({arguments}) {result} in {took_ms:.2f} ms",
            file=sys.stderr,
            flush=True,
        )

    manager.add_hookcall_monitoring(before, after)
