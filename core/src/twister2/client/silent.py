"""A job that ended and whose master said nothing: what its resource manager knows is the cause."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from twister2.spec.errors import JobFailedError, JobKilledError, Twister2Error
from twister2.spec.rm import JobState

if TYPE_CHECKING:
    from twister2.spec.rm import JobHandle, JobStatus, ResourceManager

HEADLINE = 100
"""Characters of a manager's reason that fit into a headline."""
LAST_WORDS = 2000
"""Characters of what the master wrote at its end."""


def last_words(backend: ResourceManager, handle: JobHandle) -> str:
    """The end of what the master wrote outside of its channel (why it could not start, say), as far as the manager has
    it. To be asked before the manager removes what it has.
    """
    from twister2.control.echo import parse

    text = ""
    with contextlib.suppress(Twister2Error):
        for chunk in backend.logs(handle):
            if chunk.slot < 0:
                text = (text + chunk.text)[-4 * LAST_WORDS :]
    lines = [line for line in text.splitlines() if not parse(line)[0]]
    return "\n".join(lines).strip()[-LAST_WORDS:]


def ending(status: JobStatus, said: str = "") -> tuple[str, str]:
    """What happened, and why: the manager's reason where it gives one.

    :param said: what the master wrote last, from :func:`last_words`.
    """
    words = f"the last that was written there:\n{said}" if said else "its job master wrote nothing"
    if not status.reason:
        what = "the job ended without its job master saying how"
        return what, f"the resource manager says no more than: {status.state.value}" + (f"; {words}" if said else "")
    first = re.split(r"[:;] ", status.reason, maxsplit=1)[0]
    if len(first) > HEADLINE:
        first = first[:HEADLINE].rsplit(" ", 1)[0] + "..."
    return f"the job ended: {first}", f"the resource manager says: {status.reason}; {words}"


def ended_silently(status: JobStatus, said: str = "") -> Twister2Error:
    """The error of a client that waits for the master. Who asks the manager to end a job kills it."""
    what, why = ending(status, said)
    shown = "'twister2 logs JOB --manager' shows what was written at the start"
    if status.state is JobState.KILLED:
        return JobKilledError(what, why=why, remedy=f"submit it again when it is wanted; {shown}")
    return JobFailedError(what, why=why, remedy=f"mend that where it can be; {shown}")
