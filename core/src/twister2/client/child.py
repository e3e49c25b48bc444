"""The job master as a child process of the client: forked where that is safe, else a fresh interpreter.

A process with a single thread can be forked, which saves the start of an interpreter and all imports. With more threads
(a notebook, a program with a thread pool) a fork could inherit a locked lock, so a fresh interpreter is started.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import sys
import time
from typing import TYPE_CHECKING, NoReturn

from twister2.spec.errors import DeadlineError, ResourceError
from twister2.spec.processes import await_ends
from twister2.worker.processes import UNSEEN, start_ticks

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Sequence

COMMAND = "import sys; from twister2.master.entry import main; sys.exit(main(sys.argv[1]))"


POLL_S = 0.05
TAKES_S = 30.0
"""How long the master may take nothing of what it is sent."""


class MasterChild:
    """A started master and the pipe to it, whose end of file tells it that the client has gone."""

    def __init__(self, pid: int, pipe: int) -> None:
        self.pid, self._pipe = pid, pipe
        self._start = start_ticks(pid)
        self._code: int | None = None
        os.set_blocking(pipe, False)

    def send(self, blocks: Sequence[bytes], deadline_s: float = TAKES_S) -> None:
        """Send blocks, each behind its length (8 bytes, big endian).

        :raises BrokenPipeError: the master has ended. :raises DeadlineError: it has taken nothing for ``deadline_s``.
        """
        for block in blocks:
            for part in (len(block).to_bytes(8, "big"), block):
                data = memoryview(part)
                while data:
                    self._until_it_takes_more(deadline_s)
                    with contextlib.suppress(BlockingIOError):
                        data = data[os.write(self._pipe, data) :]

    def _until_it_takes_more(self, deadline_s: float) -> None:
        if not _ready(self._pipe, select.POLLOUT, deadline_s):
            raise DeadlineError(
                f"the job master took nothing in for {deadline_s:g} s",
                why=f"process {self.pid} is stopped, or this host is overloaded",
                remedy="submit the job again",
            )

    def hang_up(self) -> None:
        """Close the pipe. Idempotent."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1

    def poll(self) -> int | None:
        """Its exit code (negative: signal; :data:`UNSEEN` when somebody else took it) once it has ended, else None."""
        if self._code is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self._code = os.waitstatus_to_exitcode(status)
            except ChildProcessError:  # SIGCHLD is ignored here (inherited, perhaps): the kernel keeps no exit codes
                if not self._start or start_ticks(self.pid) != self._start:
                    self._code = UNSEEN
        return self._code

    def wait(self, timeout_s: float) -> int | None:
        """Wait for its end; None when it has not ended in time."""
        if self.poll() is None:
            await_ends([self.pid], timeout_s)
        return self._poll_until(time.monotonic() + POLL_S)

    def _poll_until(self, deadline: float) -> int | None:
        """Who does not reap it may see it a moment longer."""
        while self.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        return self._code

    def kill(self) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


def _ready(descriptor: int, event: int, timeout_s: float) -> bool:
    """Wait for an event on any descriptor, however high its number (``select`` ends at 1023)."""
    poller = select.poll()
    poller.register(descriptor, event)
    return bool(poller.poll(max(0, int(timeout_s * 1000))))


def start_child(job_id: str, log: pathlib.Path) -> MasterChild:
    """Start a master that waits for its ticket on its standard input; what it writes goes to ``log``, in the job's
    folder.

    :raises ResourceError: it cannot be started; nothing is left of it.
    """
    try:
        with contextlib.ExitStack() as undo:
            read, write = os.pipe2(os.O_CLOEXEC)
            undo.callback(os.close, write)
            with contextlib.ExitStack() as given:
                given.callback(os.close, read)
                output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
                given.callback(os.close, output)
                pid = _start(job_id, log.parent, read, output)
            child = MasterChild(pid, write)
            undo.pop_all()
            return child
    except OSError as error:
        raise ResourceError(
            "the job master cannot be started",
            why=f"{error.strerror or error}{f' ({error.filename})' if error.filename else ''}",
            remedy="see the limits on processes and open files (ulimit -u, ulimit -n), and that the state folder "
            "(job.state_dir) can be written",
        ) from error


def _start(job_id: str, folder: pathlib.Path, read: int, output: int) -> int:
    """Fork or start it; returns its process id."""
    if len(os.listdir("/proc/self/task")) == 1:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        pid = os.fork()
        if pid == 0:
            _become_master(folder, read, output)
        return pid
    import subprocess

    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(folder)],
        stdin=read,
        stdout=output,
        stderr=output,
        start_new_session=True,
        env={**os.environ, "TWISTER2_MASTER_OF": job_id},
    )
    process.returncode = 0  # reaped by MasterChild
    return process.pid


def _become_master(folder: pathlib.Path, read: int, output: int) -> NoReturn:
    """What a forked child does: own session, own standard streams, nothing else of the client's."""
    code = 1
    gc.disable()
    gc.freeze()  # what the client has made stays where it is: looking through it would copy its pages
    try:
        from twister2.master.entry import main
        from twister2.worker.processes import close_other_descriptors

        os.setsid()
        for source, target in ((read, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        close_other_descriptors(set())
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - the standard streams live as long as the process
        sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        gc.freeze()
        gc.enable()
        code = main(str(folder))
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
