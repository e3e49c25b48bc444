"""The wrapper of every copy, run as a task: fetches the ticket, runs the command, ends all its processes with it.

Run as ``python -m twister2_rm_mesos.copy COMMAND...`` with the variables of :mod:`twister2_rm_mesos.tasks`.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import secrets
import select
import signal
import sys
import time
from typing import Any

DESK, DESK_KEY = "TWISTER2_MESOS_DESK", "TWISTER2_MESOS_DESK_KEY"
TASK, CLAIM = "TWISTER2_MESOS_TASK", "TWISTER2_MESOS_CLAIM"
GRACE_S = 4.0
"""How long processes may take to end when Mesos ends the task, before its own patience (5 s) is over."""
DESK_S = 60.0
"""How long the desk may take to answer at first."""
HERE_S = 5.0
"""How often the copy says that it is there: a scheduler that has taken over knows it again by that."""
PR_SET_CHILD_SUBREAPER = 36


class Copy:
    """One copy of the command, with its ticket and the desk."""

    def __init__(self, command: list[str], environ: dict[str, str]) -> None:
        import zmq

        self._command, self._zmq = command, zmq
        self._context: zmq.Context[Any] = zmq.Context(io_threads=1)
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = 0
        public, secret = zmq.curve_keypair()
        self._socket.curve_publickey, self._socket.curve_secretkey = public, secret
        self._socket.curve_serverkey = environ[DESK_KEY].encode()
        self._socket.reconnect_ivl, self._socket.reconnect_ivl_max = 100, 2000
        self._socket.connect(environ[DESK])
        self._address = environ[DESK]
        self._said = json.dumps(
            {"task": environ[TASK], "claim": environ[CLAIM], "session": secrets.token_hex(16)}
        ).encode()
        self._spoke = 0.0
        self._ticket: int | None = None
        self._stop_at: float | None = None
        self._told = False
        self._environ = {key: value for key, value in environ.items() if key not in (DESK, DESK_KEY, TASK, CLAIM)}

    def run(self) -> int:
        """Run the command to its end; its exit code, 128 and the signal's number when it was killed."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        wake = signal_descriptor()
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        try:
            if not self._first_ticket(wake):
                return 1 if self._stop_at is None else 143
            child = self._start()
            return self._follow(child, wake)
        finally:
            end_all(KILL_S)
            self._socket.close(linger=0)
            self._context.term()

    def _first_ticket(self, wake: int) -> bool:
        until = time.monotonic() + DESK_S
        while self._ticket is None:
            if time.monotonic() > until:
                print(
                    f"the job's scheduler did not answer at {self._address} within {DESK_S:g} s: agents must reach the "
                    "submitting host there; rm.mesos.host says by which address",
                    file=sys.stderr,
                    flush=True,
                )
                return False
            self._wait(wake, 0.2)
            if self._stop_at is not None:
                return False
        return True

    def _start(self) -> int:
        """Start the command with signals as they were."""
        child = os.fork()
        if child == 0:
            try:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
                null = os.open(os.devnull, os.O_RDONLY)
                os.dup2(null, 0)
                os.execvpe(self._command[0], self._command, self._environ)
            except OSError as error:
                print(f"{self._command[0]}: {error.strerror}", file=sys.stderr, flush=True)
            finally:
                os._exit(127)
        return child

    def _follow(self, child: int, wake: int) -> int:
        code: int | None = None
        while code is None:
            self._wait(wake, 0.2 if self._stop_at is not None else 1.0)
            code = reap(child)
            if code is None and self._stop_at is not None:
                late = time.monotonic() >= self._stop_at
                if late or not self._told:
                    self._told = True
                    tell(signal.SIGKILL if late else signal.SIGTERM)
        return code if code >= 0 else 128 - code

    def _wait(self, wake: int, seconds: float) -> None:
        """Take what comes from the desk and by signals, for so long at the most."""
        now = time.monotonic()
        if now - self._spoke > HERE_S or not self._spoke:
            self._spoke = now
            with contextlib.suppress(self._zmq.ZMQError):
                self._socket.send(self._said, flags=self._zmq.NOBLOCK)
        if not self._socket.poll(0):
            select.select([int(self._socket.fd), wake], [], [], seconds)
        while self._socket.poll(0):
            self._hear(*self._socket.recv_multipart())
        with contextlib.suppress(BlockingIOError):
            while data := os.read(wake, 128):
                if any(number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP) for number in data):
                    self._end_within(GRACE_S)

    def _hear(self, kind: bytes, text: bytes) -> None:
        if kind == b"ticket":
            self._write(text)
        elif kind == b"stop":
            self._end_within(float(text))
        elif kind == b"refused":
            print(f"no ticket: {text.decode(errors='replace')}", file=sys.stderr, flush=True)
            self._end_within(0.0)

    def _end_within(self, grace_s: float) -> None:
        at = time.monotonic() + grace_s
        self._stop_at = at if self._stop_at is None else min(at, self._stop_at)

    def _write(self, ticket: bytes) -> None:
        """Into memory of this process, which ends with it however it ends; the sandbox can be read through the agent's
        API. A descriptor is replaced as a whole.
        """
        new = os.memfd_create("ticket", os.MFD_CLOEXEC)
        os.fchmod(new, 0o600)
        with os.fdopen(new, "wb", closefd=False) as file:
            file.write(ticket)
        if self._ticket is None:
            self._ticket = new
            self._environ["TWISTER2_TICKET"] = f"/proc/{os.getpid()}/fd/{new}"
        else:
            os.dup2(new, self._ticket, inheritable=False)
            os.close(new)


SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}
KILL_S = 10.0
"""How long killed processes may take to go."""


def signal_descriptor() -> int:
    """A descriptor that gives the number of each signal that has come, a byte each."""
    read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    return read


def reap(child: int) -> int | None:
    """Take in all children that have ended, also those that were left to us; how ``child`` did, None if it has not."""
    code = None
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            if found[0] == child:
                code = os.waitstatus_to_exitcode(found[1])
    return code


def descendants() -> list[int]:
    """All processes below this one: whoever loses its parent becomes our child."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(OSError, IndexError, ValueError):
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
                if fields[0] not in (b"Z", b"X"):
                    parents[int(name)] = int(fields[1])
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {os.getpid()})


def tell(number: int) -> list[int]:
    """Send all descendants a signal; returns them."""
    found = descendants()
    for pid in found:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
    return found


def end_all(seconds: float) -> None:
    """Kill what is left, until nothing is."""
    until = time.monotonic() + seconds
    while tell(signal.SIGKILL) and time.monotonic() < until:
        reap(0)
        time.sleep(0.01)
    reap(0)


if __name__ == "__main__":
    sys.exit(Copy(sys.argv[1:], dict(os.environ)).run())
