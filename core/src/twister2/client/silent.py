"""A job that ended and whose master said nothing: what its resource manager knows is the cause."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from twister2.spec.errors import JobFailedError

if TYPE_CHECKING:
    from twister2.spec.rm import JobStatus

HEADLINE = 100
"""Characters of a manager's reason that fit into a headline."""


def ending(status: JobStatus) -> tuple[str, str]:
    """What happened, and why: the manager's reason where it gives one."""
    if not status.reason:
        what = "the job ended without its job master saying how"
        return what, f"the resource manager says no more than: {status.state.value}"
    first = re.split(r"[:;] ", status.reason, maxsplit=1)[0]
    if len(first) > HEADLINE:
        first = first[:HEADLINE].rsplit(" ", 1)[0] + "..."
    return f"the job ended: {first}", f"the resource manager says: {status.reason}; its job master wrote nothing"


def ended_silently(status: JobStatus) -> JobFailedError:
    """The error of a client that waits for the master."""
    what, why = ending(status)
    return JobFailedError(
        what, why=why, remedy="mend that where it can be; 'twister2 logs --manager' shows what was written at the start"
    )
