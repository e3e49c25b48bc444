"""How a program that is busy with something else hears that its job was killed: ``KeyboardInterrupt``, as of Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from twister2.worker.conversation import Conversation

RETRY_S = 0.05
"""How long code of ours, which sees an abort by itself, may take until it has gone back to the program."""


@contextlib.contextmanager
def interruptible(link: Conversation) -> Iterator[None]:
    """While the program runs here (main thread), SIGINT raises ``KeyboardInterrupt`` in it after an abort.

    Not more than once, not when a call has told it by the abort's own error already, and never in the middle of code
    of Twister2, where it could cut a message in two. Outside of an abort SIGINT does nothing, as before and after.
    """

    def on_signal(number: int, frame: FrameType | None) -> None:
        if not link.aborted or link.told:
            return
        if _is_ours(frame):
            again = threading.Timer(RETRY_S, os.kill, (os.getpid(), number))
            again.daemon = True
            again.start()
            return
        link.told = True
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _is_ours(frame: FrameType | None) -> bool:
    """Whether what runs at this moment is a function of the core or of a plugin that is named as ours are."""
    name = "" if frame is None else str(frame.f_globals.get("__name__", ""))
    return name.startswith(("twister2.", "twister2_"))
