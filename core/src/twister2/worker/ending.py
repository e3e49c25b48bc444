"""The end of a user process whose function has returned: threads that the program left, its exit handlers, and files
that it has not closed.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import gc
import io
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import logging

    from twister2.worker.userlink import ProcessLink

POLL_S = 0.05
COMPRESSED = (("gzip", "GzipFile"), ("bz2", "BZ2File"), ("lzma", "LZMAFile"))
"""Files whose last bytes are known only when they are closed."""


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
    """Run what was registered with ``atexit``, and write out what files are still open. When that takes longer than
    ``deadline_s`` seconds, the process ends with ``code``.
    """
    done = threading.Event()
    doing = "exit handlers of the program still ran"

    def watch() -> None:
        if not done.wait(deadline_s):
            text = f"twister2: {doing} after {deadline_s:g} s: the process ends now\n"
            os.write(2, text.encode())
            os._exit(code)

    threading.Thread(target=watch, daemon=True).start()
    atexit._run_exitfuncs()
    doing = "files of the program could not be written out"
    write_files_out()
    done.set()


def write_files_out() -> None:
    """Write what open files keep back, as Python does when it takes a program's objects down at its end; a process that
    was forked ends without that.

    Files that were open at the latest ``gc.freeze()`` are left alone: their descriptors may be another's by now.
    """
    if not _writes_to_files():
        return  # and nobody looks through all objects of a large program
    packers = [getattr(sys.modules[module], name) for module, name in COMPRESSED if module in sys.modules]
    # from the outermost to the innermost: each writes to the next
    order = ([io.TextIOWrapper], packers, [io.BufferedWriter, io.BufferedRandom])
    ranks: dict[int, int | None] = {}
    found: list[tuple[int, Any]] = []
    for thing in gc.get_objects():
        kind = type(thing)
        if id(kind) not in ranks:
            known = [n for n, kinds in enumerate(order) if any(type.__subclasscheck__(base, kind) for base in kinds)]
            ranks[id(kind)] = known[0] if known else None
        rank = ranks[id(kind)]
        if rank is not None:
            found.append((rank, thing))
    for rank, file in sorted(found, key=lambda pair: pair[0]):
        with contextlib.suppress(Exception):  # it is closed, or only read, or the disk is full
            if order[rank] is packers:
                file.close()
            else:
                file.flush()


def _writes_to_files() -> bool:
    """Whether a descriptor beyond the standard streams is a file or a pipe that is open for writing."""
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:  # nobody knows
        return True
    for name in names:
        with contextlib.suppress(OSError):  # the folder's own descriptor is closed by now
            target = os.readlink(f"/proc/self/fd/{name}")
            writes = fcntl.fcntl(int(name), fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
            is_file = target.startswith(("/", "pipe:")) and not target.startswith("/memfd:")
            if int(name) > 2 and writes and is_file:
                return True
    return False
