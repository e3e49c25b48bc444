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
import subprocess
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Sequence

COMMAND = "import sys; from twister2.master.process import main; sys.exit(main())"


class MasterChild:
    """A started master and the pipe to it, whose end of file tells it that the client has gone."""

    def __init__(self, pid: int, pipe: int) -> None:
        self.pid, self._pipe = pid, pipe
        self._code: int | None = None

    def send(self, blocks: Sequence[bytes]) -> None:
        """Send blocks, each behind its length (8 bytes, big endian).

        :raises BrokenPipeError: the master has ended.
        """
        for block in blocks:
            data = memoryview(len(block).to_bytes(8, "big") + block)
            while data:
                data = data[os.write(self._pipe, data) :]

    def hang_up(self) -> None:
        """Close the pipe. Idempotent."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1

    def poll(self) -> int | None:
        """Its exit code (negative: signal) once it has ended, else None."""
        if self._code is None:
            with contextlib.suppress(ChildProcessError):
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def wait(self, timeout_s: float) -> int | None:
        """Wait for its end; None when it has not ended in time."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                handle = os.pidfd_open(self.pid)
                select.select([handle], [], [], timeout_s)
                os.close(handle)
        return self.poll()

    def kill(self) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


def start_child(job_id: str, log: pathlib.Path) -> MasterChild:
    """Start a master that waits for its ticket on its standard input; what it writes goes to ``log``."""
    read, write = os.pipe2(os.O_CLOEXEC)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        if len(os.listdir("/proc/self/task")) == 1:
            for stream in (sys.stdout, sys.stderr):
                if stream is not None:
                    stream.flush()
            pid = os.fork()
            if pid == 0:
                _become_master(read, output)
        else:
            process = subprocess.Popen(
                [sys.executable, "-c", COMMAND],
                stdin=read,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env={**os.environ, "TWISTER2_MASTER_OF": job_id},
            )
            pid, process.returncode = process.pid, 0  # reaped by MasterChild
    finally:
        os.close(read)
        os.close(output)
    return MasterChild(pid, write)


def _become_master(read: int, output: int) -> NoReturn:
    """What a forked child does: own session, own standard streams, nothing else of the client's."""
    code = 1
    try:
        from twister2.master.process import main
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
        code = main()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
