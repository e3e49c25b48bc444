"""Calls that an attempt cannot do without: made again while the resource manager is away."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from twister2.spec.errors import ResourceError

if TYPE_CHECKING:
    from collections.abc import Callable

AGAIN_S = 2.0
"""Time between two tries."""
TRIES = 3
"""So many of them are made with a manager that is there: one that has just come back may refuse what it does later."""
LOOK_S = 0.1


def try_again(
    call: Callable[[], None],
    answers: Callable[[], object],
    wanted: Callable[[], bool],
    failed: Callable[[ResourceError], None],
    deadline_s: float,
) -> None:
    """Make a call until it succeeds, is wanted no more, or a manager that is there has refused it several times.

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
            until = until or time.monotonic() + deadline_s
            if not wanted() or time.monotonic() + AGAIN_S > until:
                raise
            tries = tries + 1 if _is_there(answers) else 0
            if tries >= TRIES:
                raise
            failed(error)
            again = time.monotonic() + AGAIN_S
            while time.monotonic() < again:
                time.sleep(LOOK_S)
                if not wanted():
                    raise


def _is_there(answers: Callable[[], object]) -> bool:
    try:
        answers()
    except ResourceError:
        return False
    return True
