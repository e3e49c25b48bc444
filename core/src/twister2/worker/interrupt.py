"""How a program that is busy with something else hears that its job was killed: ``KeyboardInterrupt``, as of Ctrl-C."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

from twister2.spec.tracebacks import is_ours

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from twister2.worker.conversation import Conversation

LIBRARIES = frozenset(
    ("attr", "attrs", "cattrs", "cloudpickle", "fsspec", "mpi4py", "numpy", "pluggy", "pyarrow", "stevedore", "zmq")
)
"""Packages that code of ours calls in the middle of what must not be cut."""
RETRY_S = 0.05
"""How long code of ours, which sees an abort by itself, may take until it has gone back to the program. What does not
see it, a program's logging and progress, asks at its end (:meth:`~twister2.worker.link.Link.heed`).
"""


@contextlib.contextmanager
def interruptible(link: Conversation) -> Iterator[None]:
    """While the program runs here (main thread), SIGINT raises ``KeyboardInterrupt`` in it after an abort.

    Not more than once, not when a call has told it by the abort's own error already, and never in the middle of code
    of Twister2, where it could cut a message in two. Outside of an abort SIGINT does nothing, as before and after.
    """
    program = threading.get_ident()

    def interrupt() -> None:
        if link.aborted and not link.told and threading.get_ident() == program:
            link.told = True
            raise KeyboardInterrupt

    def on_signal(number: int, frame: FrameType | None) -> None:
        if not link.aborted or link.told:
            return
        if runs_ours(frame):
            link.overdue = interrupt
            again = threading.Timer(RETRY_S, os.kill, (os.getpid(), number))
            again.daemon = True
            again.start()
            return
        interrupt()

    signal.signal(signal.SIGINT, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        link.overdue = None


class ThreadInterrupt:
    """The same for a worker that is a thread: around the program (``with``), and :meth:`send` from any other thread.

    Python raises what is sent to a thread when that next runs Python code: a loop hears of it at once, a call that
    blocks in C (``time.sleep``, a lock, a library's own wait) when it returns.
    """

    def __init__(self, link: Conversation) -> None:
        self._link = link
        self._lock = threading.Lock()
        self._thread = 0
        self._over = threading.Event()
        self._sent = False

    def __enter__(self) -> None:
        with self._lock:
            self._thread = threading.get_ident()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._over.set()
            if self._sent:  # and perhaps not raised yet: what follows is no concern of the program
                _raise_in(self._thread, None)

    def close(self) -> None:
        """The program will not run, or has ended."""
        self._over.set()

    def send(self, after_s: float = 0.0) -> None:
        """Interrupt the program in ``after_s`` seconds, or when it next is in no code of ours; returns at once."""
        threading.Thread(target=self._send, args=(after_s,), name="twister2-interrupt", daemon=True).start()

    def _send(self, after_s: float) -> None:
        pause_s = after_s
        while not self._over.wait(pause_s):
            pause_s = RETRY_S
            with self._lock:
                if self._link.told or self._over.is_set():
                    return
                if self._thread and not runs_ours(sys._current_frames().get(self._thread)):
                    self._link.told = self._sent = True
                    _raise_in(self._thread, KeyboardInterrupt)
                    return
                self._link.overdue = self._interrupt

    def _interrupt(self) -> None:
        """What was sent came in the middle of code of ours, which can be left now."""
        with self._lock:
            if self._over.is_set() or self._link.told or threading.get_ident() != self._thread:
                return
            self._link.told = True
        raise KeyboardInterrupt


def _raise_in(thread: int, what: type[BaseException] | None) -> None:
    """Have an exception raised in a thread, or (None) one that was not raised yet forgotten."""
    exception = ctypes.py_object() if what is None else ctypes.py_object(what)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), exception)


def runs_ours(frame: FrameType | None) -> bool:
    """Whether what runs at this moment is a function of the core or of a plugin that is named as ours are, or one of
    Python's own or of :data:`LIBRARIES` that such a function has called.
    """
    while frame is not None:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package not in sys.stdlib_module_names and package not in LIBRARIES:
            return is_ours(package)
        frame = frame.f_back
    return False
