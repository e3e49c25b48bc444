"""Starting a prepared job, with its observers."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from twister2.client.session import Output, Session
from twister2.control.text import output_bytes
from twister2.host import ObserverSet
from twister2.spec.errors import DataAccessError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twister2.client.prepare import Prepared


def print_output(worker: int, stream: str, text: str) -> None:
    """What workers print goes to the same stream here, byte by byte; log records go to stderr. A closed stream takes
    nothing.

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
        raise DataAccessError(
            f"what worker {worker} wrote cannot be written to {stream}",
            why=str(error),
            remedy="free space where the output goes; 'twister2 logs' has it too",
        ) from error


def start(prepared: Prepared, output: Output, observers: Sequence[str]) -> Session:
    """Start a prepared job.

    :param output: takes what workers write and what the client has to say. :param observers: names of observer plugins.
    """
    for note in prepared.match.notes:
        output(-1, "log", f"note: {note}\n")
    for warning in prepared.resolved.warnings:
        output(-1, "log", f"warning: {warning}\n")
    chosen = [(name, prepared.resolved.plugin("observe", name)) for name in observers]
    loaded = ObserverSet.load(prepared.host, chosen, "client", lambda text: output(-1, "log", f"warning: {text}\n"))
    session = Session(prepared, output, loaded)
    session.start()
    return session
