"""A job master that is the first process of its PID namespace, as in a container without an init process.

The kernel keeps signals from such a process that come from inside, SIGKILL too: nobody beside it could end it when it
hangs (:mod:`twister2.master.watch`). And it inherits all orphans. So the master runs below one that does nothing else.
"""

from __future__ import annotations

import os
import signal

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def step_down() -> None:
    """Return in a child if this is the first process, which then waits for it, and ends as it does."""
    if os.getpid() != 1:
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    child = os.fork()
    if child:
        for number in PASSED_ON:
            signal.signal(number, lambda number, _: os.kill(child, number))
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os._exit(_end_of(child))
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_of(child: int) -> int:
    """Its exit code, 128 and the signal's number when it was killed; orphans are taken in meanwhile."""
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
