"""What Mesos says of tasks, in the words of the contract."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

ENDED = {
    "TASK_FINISHED",
    "TASK_FAILED",
    "TASK_KILLED",
    "TASK_ERROR",
    "TASK_LOST",
    "TASK_DROPPED",
    "TASK_GONE",
    "TASK_GONE_BY_OPERATOR",
    "TASK_UNKNOWN",
    "TASK_UNREACHABLE",
}
"""States after which a slot may be started again. A task that was unreachable and comes back is killed."""
NEVER_WAS = {"REASON_INVALID_OFFERS", "REASON_AGENT_DISCONNECTED", "REASON_AGENT_REMOVED", "REASON_MASTER_DISCONNECTED"}
RUNS = {"TASK_RUNNING", "TASK_KILLING"}
WORDS = {
    "REASON_INVALID_OFFERS": "the offers were withdrawn",
    "REASON_AGENT_REMOVED": "its agent was removed",
    "REASON_AGENT_UNKNOWN": "its agent is not known any more",
    "REASON_AGENT_DISCONNECTED": "its agent is not connected",
    "REASON_AGENT_RESTARTED": "its agent was restarted",
    "REASON_AGENT_REMOVED_BY_OPERATOR": "an operator removed its agent",
    "REASON_CONTAINER_LAUNCH_FAILED": "its container could not be started",
    "REASON_CONTAINER_LIMITATION_DISK": "it used more disk than it asked for",
    "REASON_EXECUTOR_TERMINATED": "its executor ended",
    "REASON_EXECUTOR_REGISTRATION_TIMEOUT": "its executor did not start in time",
    "REASON_TASK_UNAUTHORIZED": "the principal may not run tasks as that user",
    "REASON_TASK_INVALID": "Mesos does not accept the task",
    "REASON_MAX_COMPLETION_TIME_REACHED": "it reached its time limit",
}
STATUS = re.compile(r"[Cc]ommand exited with status (\d+)")
SIGNAL = re.compile(r"[Cc]ommand terminated with signal (.+)")
NAMES = {(signal.strsignal(number) or "").lower(): int(number) for number in signal.valid_signals()}
SHOWN = 3
"""Slots that a reason names."""


def ending(status: Mapping[str, Any]) -> str:
    """How a copy ended: ``"exited 137 (out of memory)"``, or why it never ran."""
    state, reason = str(status["state"]), str(status.get("reason", ""))
    message = str(status.get("message", "")).strip()
    if "LIMITATION_MEMORY" in reason:
        return "exited 137 (out of memory)"
    if state == "TASK_FINISHED":
        return "exited 0"
    if found := STATUS.search(message):
        return f"exited {found[1]}"
    if found := SIGNAL.search(message):
        text = found[1].strip().lower().removesuffix(" (core dumped)")
        number = int(text) if text.isdecimal() else NAMES.get(text, 0)
        return f"exited {128 + number}" if number else f"ended: signal {text}"
    if state == "TASK_KILLED":
        return "exited 143 (killed)"
    word = WORDS.get(reason, "")
    what = {
        "TASK_UNREACHABLE": "lost: its agent does not answer",
        "TASK_GONE": "lost: its agent is gone",
        "TASK_GONE_BY_OPERATOR": "lost: an operator has marked its agent as gone",
    }.get(state, f"failed: {word or message or state}")
    own = ", ".join(text for text in (reason, message if word or what.startswith("lost") else "") if text)
    return f"{what} ({own})" if own else what


def never_was(status: Mapping[str, Any]) -> bool:
    """Whether a task came to nothing since its offer was gone when it was accepted: another offer will do."""
    return status["state"] in ("TASK_LOST", "TASK_DROPPED") and status.get("reason") in NEVER_WAS


def culprits(slots: Mapping[int, str]) -> str:
    """Who did not end well: the first few of them."""
    bad = {slot: text for slot, text in sorted(slots.items()) if text != "exited 0"}
    if not bad:
        return ""
    more = f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
    return ", ".join(f"slot {slot} {text}" for slot, text in list(bad.items())[:SHOWN]) + more
