"""The fork server: a process without threads, sockets of zmq or MPI, from which every attempt's user process is forked.

The supervisor forks it before it makes a zmq context; everything that a user process needs is imported by then, once
for all workers of a host. It does nothing but fork on demand, reap, and report how children ended; it
dies with its supervisor, and its children die with it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import time
from typing import NoReturn

from twister2.spec.processes import await_ends
from twister2.worker.descriptors import raise_limit
from twister2.worker.pipe import Pipe
from twister2.worker.processes import (
    close_other_descriptors,
    describe_exit,
    die_with_parent,
    end_process,
    launcher_descriptors,
    own_children,
    reap,
)
from twister2.worker.user import main

N_DESCRIPTORS = 4
"""Sent with every fork request: link, board, stdout, stderr (and the PMI socket as a fifth, when there is one)."""

END_S = 1.0
"""How long it may take to go once it was killed."""


class ForkServer:
    """The supervisor's handle of its fork server."""

    def __init__(self) -> None:
        ours, theirs = Pipe.pair()
        supervisor = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            _serve(theirs, supervisor)
        theirs.close()
        self.pipe = Pipe(ours)
        self._code: int | None = None

    def fork(self, job: dict[str, object], descriptors: list[int]) -> None:
        """Ask for the user process of ``job["attempt"]``; ``("forked", {"attempt", "pid"})`` and later ``("ended",
        {"attempt", "code"})`` come over ``pipe``, or ``("refused", {"attempt", "why"})``. Who reads the pipe sees when
        the fork server has gone.
        """
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send("fork", job, descriptors=descriptors)

    def end(self) -> None:
        """End it now, which ends what it has forked."""
        if self._code is not None:
            return  # it was reaped, and the number may be another's
        children = own_children()
        if children is None or self.pid in children:
            end_process(self.pid, signal.SIGKILL)
            await_ends([self.pid], END_S)

    def note(self, ended: list[tuple[int, int]]) -> None:
        """Take notice of children of this process that were reaped: pairs of pid and wait status."""
        for pid, status in ended:
            if pid == self.pid:
                self._code = os.waitstatus_to_exitcode(status)

    def how_it_ended(self, patience_s: float = 1.0) -> str:
        """In words; its end of the pipe is closed a moment before it has ended."""
        deadline = time.monotonic() + patience_s
        while self._code is None and time.monotonic() < deadline:
            self.note(reap())
            time.sleep(0.005)
        return "ended" if self._code is None else f"ended with {describe_exit(self._code)}"


def _serve(sock: socket.socket, supervisor: int) -> NoReturn:
    """The fork server's life. ``code`` in its reports is as in ``Popen.returncode``: negative for a signal."""
    die_with_parent(supervisor)
    close_other_descriptors({sock.fileno(), *launcher_descriptors()})
    os.setpgid(0, 0)
    pipe = Pipe(sock)
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    me = os.getpid()
    attempts: dict[int, object] = {}
    while not pipe.closed:
        frame = pipe.receive()
        if frame is not None and frame[0] == "fork":
            descriptors = pipe.take_descriptors()
            try:
                pid = os.fork()
            except OSError as error:  # no memory, or too many processes
                pipe.send("refused", {"attempt": frame[1]["attempt"], "why": os.strerror(error.errno or 0)})
            else:
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    _become_user_process(frame[1], descriptors, me)
                attempts[pid] = frame[1]["attempt"]
                pipe.send("forked", {"attempt": attempts[pid], "pid": pid})
            for descriptor in descriptors:
                os.close(descriptor)
            continue
        for pid, status in reap():
            pipe.send("ended", {"attempt": attempts.pop(pid, None), "code": os.waitstatus_to_exitcode(status)})
        if not pipe.closed:
            select.select([pipe.fileno(), wake_read], [], [], 5.0)
            while True:
                try:
                    if not os.read(wake_read, 512):
                        break
                except BlockingIOError:
                    break
    os._exit(0)


def _become_user_process(job: dict[str, object], descriptors: list[int], parent: int) -> NoReturn:
    """Turn a fresh fork into the user process: own session, own standard streams, then the program."""
    die_with_parent(parent)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.setsid()
    raise_limit()
    link, board, out, err, *pmi = descriptors
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (out, 1), (err, 2)):
        os.dup2(source, target)
        os.close(source)
    close_other_descriptors({link, board, *(pmi or launcher_descriptors())})
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - the standard streams live as long as the process
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    main(socket.socket(fileno=link), board, pmi[0] if pmi else None, job)
    os._exit(0)
