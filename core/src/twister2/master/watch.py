"""Who ends a job master that hangs: a process beside it.

A master in the allocation that is stopped, or waits for ever, runs as far as its resource manager knows, while its
workers give it up. Killed, it is started again, or the job has failed. One in a client is the client's business: when
both were stopped it goes on.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from typing import Self

EVERY_S = 1.0
LEAST_TURNS = 2
"""Of silence: in one turn a beat may be missing that comes a moment later."""
CLOSE_S = 1.0
"""How long the process may take to end that is not needed any more."""
CODE = """
import os, select, signal, sys

master, limit_s, silent_s = int(sys.argv[1]), int(sys.argv[2]), 0
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
while silent_s < limit_s:
    # in turns: a machine that was asleep was silent for one of them
    if not select.select([0], [], [], 1.0)[0]:
        silent_s += 1
    elif os.read(0, 1024):
        silent_s = 0
    else:
        sys.exit()
if os.getppid() == master:
    print(f"the job master has done nothing for {limit_s} s: it hangs, and is killed", file=sys.stderr, flush=True)
    os.kill(master, signal.SIGKILL)
"""


class Watch:
    """While it is open, this process has to beat; see :data:`CODE`."""

    def __init__(self, silent_s: float) -> None:
        """
        :param silent_s: how long it may be silent before it is killed; 0: nobody watches.
        """
        self._silent_s, self._pid, self._pipe = silent_s, 0, -1
        self._next = 0.0

    def __enter__(self) -> Self:
        if self._silent_s:
            read, self._pipe = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(self._pipe, False)
            limit = str(max(LEAST_TURNS, math.ceil(self._silent_s / EVERY_S)))
            command = [sys.executable, "-I", "-S", "-c", CODE, str(os.getpid()), limit]
            try:
                actions = [(os.POSIX_SPAWN_DUP2, read, 0)]
                self._pid = os.posix_spawn(sys.executable, command, os.environ, file_actions=actions)
            except OSError as error:  # too many processes, say: the job is not to fail for that
                print(f"nobody watches whether this job master hangs: {error}", file=sys.stderr, flush=True)
            finally:
                os.close(read)
        return self

    def beat(self) -> None:
        """Say that this process does something; costs next to nothing."""
        now = time.monotonic()
        if self._pid and now >= self._next:
            self._next = now + EVERY_S
            with contextlib.suppress(OSError):  # it is gone, or stopped
                os.write(self._pipe, b".")

    def __exit__(self, *_: object) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
        pid, self._pid = self._pid, 0  # from here on a beat says nothing to anybody
        if pid:
            _reap(pid, time.monotonic() + CLOSE_S)


def _reap(pid: int, until: float) -> None:
    """Its end is told by that of the pipe."""
    with contextlib.suppress(ChildProcessError):
        while not os.waitpid(pid, os.WNOHANG)[0] and time.monotonic() < until:
            time.sleep(0.005)
