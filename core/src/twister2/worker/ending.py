"""The end of a user process whose function has returned: threads that the program left, and its exit handlers."""

from __future__ import annotations

import atexit
import os
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging

    from twister2.worker.userlink import ProcessLink

POLL_S = 0.05


def join_threads(link: ProcessLink, log: logging.Logger, deadline_s: float) -> None:
    """Wait for the threads that are no daemons, as Python does at the end of a program, but for ``deadline_s`` seconds
    at the most: those that still run then are named in a warning, and end with the process.

    :raises StepAbortedError: the attempt was aborted meanwhile.
    """
    if not threads_left():
        return
    # Python's own function for it, so that pools of threads are told to end; it would wait for ever.
    waiter = threading.Thread(target=getattr(threading, "_shutdown"), daemon=True)  # noqa: B009 - private, hence so
    waiter.start()
    link.waiting("threads of the program")
    deadline = time.monotonic() + deadline_s
    while waiter.is_alive() and time.monotonic() < deadline:
        waiter.join(POLL_S)
        link.poll()
        link.raise_if_aborted()
    link.waiting("")
    if left := threads_left():
        names = ", ".join(thread.name for thread in left)
        log.warning(
            "threads of the program still ran %g s after its function had returned, and end unfinished: %s "
            "(join them, or raise job.threads_deadline_s)",
            deadline_s,
            names,
        )


def threads_left() -> list[threading.Thread]:
    """The threads that Python would wait for."""
    mine = (threading.current_thread(), threading.main_thread())
    return [thread for thread in threading.enumerate() if thread not in mine and not thread.daemon]


def run_exit_handlers(code: int, deadline_s: float) -> None:
    """Run what was registered with ``atexit``. When that takes longer than ``deadline_s`` seconds, the process ends
    with ``code``.
    """
    done = threading.Event()

    def watch() -> None:
        if not done.wait(deadline_s):
            text = f"twister2: exit handlers of the program still ran after {deadline_s:g} s: the process ends now\n"
            os.write(2, text.encode())
            os._exit(code)

    threading.Thread(target=watch, daemon=True).start()
    atexit._run_exitfuncs()
    done.set()
