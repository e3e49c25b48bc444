"""Starting a prepared job, with its observers."""

from __future__ import annotations

import errno
import os
import stat
import sys
from typing import TYPE_CHECKING, TextIO

from twister2.client.interrupts import OF_COMMANDS
from twister2.client.session import Output, Session
from twister2.control.text import output_bytes
from twister2.host import ObserverSet
from twister2.spec.errors import DataAccessError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2.client.prepare import Prepared


def print_output(worker: int, stream: str, text: str) -> None:
    """What workers print goes to the same stream here, byte by byte; log records go to stderr. A closed stream takes
    nothing, nor does a terminal that has gone: the logs have it all.

    :raises DataAccessError: the stream cannot be written (a full disk).
    """
    target = sys.stdout if stream == "stdout" else sys.stderr
    if target is None:
        return
    try:
        encoding = target.encoding or "utf-8"
        try:
            text.encode(encoding)
        except UnicodeEncodeError:  # bytes that are no text, or a terminal that knows few characters
            data = output_bytes(text, encoding)
            if hasattr(target, "buffer"):
                target.flush()
                target.buffer.write(data)
            else:
                target.write(data.decode(encoding, "backslashreplace"))
        else:
            target.write(text)
        target.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.errno == errno.EIO and _is_terminal(target):
            return
        raise DataAccessError(
            f"what worker {worker} wrote cannot be written to {stream}",
            why=str(error),
            remedy="free space where the output goes; 'twister2 logs JOB' has it too",
        ) from error


def _is_terminal(stream: TextIO) -> bool:
    """Whether it is a terminal, also one that has gone."""
    try:
        return stat.S_ISCHR(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):
        return False


def observers_of(prepared: Prepared, *, command: bool) -> list[str]:
    """The configured observers. Where none are configured: the progress display, if it is installed and of use.

    It is for somebody who looks at a terminal; a command tells its end elsewhere, too, a script or notebook does not.
    Workers that are threads write to the terminal themselves, and ``breakpoint()`` there must not be drawn over.

    :param command: a command of ours wants to know, not a program that called ``run``.
    """
    job, host = prepared.job, prepared.host
    if job.observe or prepared.resolved.origins.get("job.observe", "default") != "default":
        return list(job.observe)
    wanted = not prepared.backend.offers.in_process if _on_terminal() else command
    return ["progress"] if wanted and any(record.name == "progress" for record in host.discover("observe")) else []


def _on_terminal() -> bool:
    """Whether stderr is a terminal; a notebook's may say so, and is none."""
    return sys.stderr is not None and sys.stderr.isatty() and "ipykernel" not in sys.modules


def start(prepared: Prepared, output: Output, observers: Sequence[str], *, command: bool) -> Session:
    """Start a prepared job.

    :param output: takes what workers write and what the client has to say. :param observers: names of observer plugins.
    :param command: as of :func:`observers_of`: signals that end the process are a command's, else the program's.
    """
    for note in prepared.match.notes:
        output(-1, "log", f"note: {note}\n")
    for warning in prepared.resolved.warnings:
        output(-1, "log", f"warning: {warning}\n")
    chosen = [(name, prepared.resolved.plugin("observe", name)) for name in observers]
    loaded = ObserverSet.load(prepared.host, chosen, "client", lambda text: output(-1, "log", f"warning: {text}\n"))
    session = Session(prepared, output, loaded, OF_COMMANDS if command else ())
    session.start()
    return session
