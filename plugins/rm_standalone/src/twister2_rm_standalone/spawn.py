"""Starting a launcher: when a job is submitted, or earlier, to import what it needs while the client still reads its
configuration.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping

import attrs

from twister2.spec.interpreters import hash_seed
from twister2_rm_standalone.procfs import BY_PIPE, JOB_MARKER, MASTER_MARKER

PRIVATE = ("TWISTER2_SLOT", "TWISTER2_TICKET", "TWISTER2_MASTER_TICKET", JOB_MARKER, MASTER_MARKER)
"""Variables of a surrounding job that the copies of this one must not inherit."""

COMMAND = (
    "import sys; sys.path = [p for p in sys.path if p]; "
    "from twister2_rm_standalone.launcher import main; from os import _exit; _exit(main(sys.argv[1]))"
)
"""What ``python -c`` is given: cheaper than ``-m``, compiled once, and deaf to modules in the current folder.
Whoever ends a job waits for the launcher to go: it does not take its interpreter down first.
"""

LAUNCHERS: set[int] = set()
"""Launchers that this process started, whichever backend object did, and has not seen the end of."""


KILLED_S = 2.0
"""How long a launcher that was killed is waited for."""


@attrs.frozen
class _Warm:
    """A launcher that waits for its order: it ends when ``pipe`` is closed without one, at the latest with us.

    ``owner`` is the process that holds the pipe: in a fork of it, the job master say, the number means something else.
    """

    pid: int
    pipe: int
    owner: int
    environment: Mapping[str, str]


_warm: dict[str, _Warm] = {}


def warm_up(job_id: str) -> bool:
    """Start a launcher that imports what it needs and waits for its order; it ends before this process does.

    :raises OSError: it cannot be started.
    """
    cool_down(job_id)
    environment = _warm_environment(job_id)
    read, write = os.pipe()
    try:
        pid = _spawn(BY_PIPE, environment, read)
    except OSError:
        os.close(write)
        raise
    finally:
        os.close(read)
    _warm[job_id] = _Warm(pid, write, os.getpid(), environment)
    atexit.unregister(cool_down_all)  # once is enough
    atexit.register(cool_down_all)
    return True


def cool_down(job_id: str) -> None:
    """End the waiting launcher of a job, if there is one: no order will come."""
    waiting = _take(job_id)
    if waiting is not None:
        os.close(waiting.pipe)
        if waiting.pid in LAUNCHERS:  # not reaped: the number is still its
            with contextlib.suppress(ProcessLookupError):
                os.kill(waiting.pid, signal.SIGKILL)
            _until_gone(waiting.pid)


def _until_gone(pid: int) -> None:
    """Wait for a launcher that was killed: on a busy machine it may outlive the client that has killed it."""
    give_up = time.monotonic() + KILLED_S
    while pid in LAUNCHERS and time.monotonic() < give_up:
        reap()
        time.sleep(0.001)


def cool_down_all() -> None:
    """End all launchers that wait: for submissions that failed, most likely."""
    for job_id in [*_warm]:
        cool_down(job_id)


def _take(job_id: str) -> _Warm | None:
    waiting = _warm.pop(job_id, None)
    return waiting if waiting is not None and waiting.owner == os.getpid() else None


def launch(job_id: str, order: str, environment: Mapping[str, str]) -> int:
    """Have the order in this file carried out, by the launcher that waits for it or by a new one; returns its pid.

    :param environment: what the copies get beside this process's environment.
    :raises OSError: no launcher can be started.
    """
    waiting = _take(job_id)
    if waiting is not None:
        try:
            # one that was started in another environment is no good: the copies would get that
            if waiting.environment == _warm_environment(job_id):
                os.write(waiting.pipe, f"{order}\n".encode())
                return waiting.pid
        except BrokenPipeError:
            reap()  # it is gone: a new one does it
        finally:
            os.close(waiting.pipe)
    return _spawn(order, {**_warm_environment(job_id), **environment}, None)


def _warm_environment(job_id: str) -> dict[str, str]:
    """What must be in the environment when the interpreter starts; the rest comes with the order."""
    return {**_inherited(), JOB_MARKER: job_id, "PYTHONHASHSEED": hash_seed(job_id)}


def _inherited() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key not in PRIVATE}


def _spawn(argument: str, environment: Mapping[str, str], stdin: int | None) -> int:
    """No shell, no terminal, no inherited descriptor; its own session, so that no Ctrl-C reaches it."""
    null = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-c", COMMAND, argument],
        environment,
        setsid=True,
        setsigmask=(),
        setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD),
        file_actions=(
            null if stdin is None else (os.POSIX_SPAWN_DUP2, stdin, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ),
    )
    LAUNCHERS.add(pid)
    return pid


def reap() -> None:
    """Take leave of ended launchers that this process started, so that no zombies stay."""
    for pid in [*LAUNCHERS]:
        try:
            if os.waitpid(pid, os.WNOHANG)[0]:
                LAUNCHERS.discard(pid)
        except ChildProcessError:
            LAUNCHERS.discard(pid)
