"""Calls that an attempt cannot do without: made again while the resource manager is away."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from twister2.spec.errors import (
    JobNotFoundError,
    MissingToolError,
    ResourceError,
    ResourcesExceededError,
    SubmissionRefusedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

AGAIN_S = 2.0
"""Time between two tries."""
TRIES = 3
"""So many of them are made with a manager that is there: what it does then may hold a little later."""
LOOK_S = 0.1
REFUSALS = (SubmissionRefusedError, ResourcesExceededError, MissingToolError, JobNotFoundError)


def try_again(
    call: Callable[[], None],
    answers: Callable[[], object],
    wanted: Callable[[], bool],
    failed: Callable[[ResourceError], None],
    deadline_s: float,
) -> None:
    """Make a call until it succeeds, is refused, or is wanted no more.

    :param answers: asks the manager for something; raises ResourceError while it is away.
    :param failed: hears of every failure that is followed by another try.
    :param deadline_s: how long that may go on.
    :raises ResourceError: the last failure.
    """
    until, tries = 0.0, 0
    while True:
        try:
            return call()
        except ResourceError as error:
            if not wanted():
                raise
            until = until or time.monotonic() + deadline_s
            tries = _tries(error, tries, answers)
            if tries >= TRIES or time.monotonic() + AGAIN_S > until:
                raise
            failed(error)
            again = time.monotonic() + AGAIN_S
            while time.monotonic() < again:
                time.sleep(LOOK_S)
                if not wanted():
                    raise


def _tries(error: ResourceError, before: int, answers: Callable[[], object]) -> int:
    """How many tries a manager has failed, this one included, that was there all the time; a refusal is the last."""
    with contextlib.suppress(ResourceError):
        answers()
        return TRIES if isinstance(error, REFUSALS) else before + 1
    return 0
