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
    # In the first process they stay blocked, and are taken one by one: none is lost, or comes when the child has gone.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*PASSED_ON, signal.SIGCHLD))
    if child := os.fork():
        os._exit(_end_of(child))
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_of(child: int) -> int:
    """Its exit code, 128 and the signal's number when it was killed; orphans are taken in meanwhile."""
    while True:
        number = signal.sigwait((*PASSED_ON, signal.SIGCHLD))
        if number in PASSED_ON:
            os.kill(child, number)
            continue
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == child:
                code = os.waitstatus_to_exitcode(ended[1])
                return code if code >= 0 else 128 - code
