"""How a supervisor gets into an attempt: it dials the master of the ticket, says hello, and hears the answer.

Where the resource manager starts a master again that has died, the ticket may change meanwhile: no copy waits for an
answer of a master when a later life of it has published another one.
"""

from __future__ import annotations

import contextlib
import pathlib
import sys
import time
from typing import TYPE_CHECKING, Any

from twister2.control.channel import LOOK_S, Dialer
from twister2.control.package import digest, repack
from twister2.control.ticket import Ticket
from twister2.spec.errors import MasterLostError, PackageError

if TYPE_CHECKING:
    from twister2.control.messages import Message

DIAL_S = 5.0
"""How long a copy dials before it looks for a ticket of a later life of the master."""


def has_returned(ticket_path: str, master: int) -> bool:
    """Whether a later life of the master has published its ticket.

    :param master: the life that is known; 0: its manager does not start it again.
    """
    if master:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            ticket = Ticket.decode(pathlib.Path(ticket_path).read_bytes())
            return ticket.master > master and bool(ticket.addresses)
    return False


def say_hello(
    ticket_path: str, ticket: Ticket, body: dict[str, Any], package: pathlib.Path | None, deadline_s: float
) -> tuple[Dialer, Message] | None:
    """Dial the master and say hello; the connection and its answer (``welcome`` or ``refused``), or None when a later
    life of the master has published a ticket meanwhile.

    :param package: where the package lies whose name is in the body: a master that was started again may ask for it.
    :raises MasterLostError: it does not answer.
    """
    try:
        return _answered(ticket_path, ticket, body, package, deadline_s)
    except SystemExit:  # the job gives up a moment before its copies do: nobody else knows what they waited for
        text = f"ended while it waited for an answer of the job master at {', '.join(ticket.addresses)}"
        print(f"twister2 worker, slot {body['slot']}: {text}", file=sys.stderr, flush=True)
        raise


def _answered(
    ticket_path: str, ticket: Ticket, body: dict[str, Any], package: pathlib.Path | None, deadline_s: float
) -> tuple[Dialer, Message] | None:
    end = time.monotonic() + deadline_s
    dialer = _dialled(ticket_path, ticket, end)
    if dialer is None:
        return None
    try:
        dialer.send("hello", body)
        while (left := end - time.monotonic()) > 0:
            answer = dialer.receive(min(left, LOOK_S))
            if answer is None and has_returned(ticket_path, ticket.master):
                break
            if answer is not None and answer.kind == "give":
                dialer.send("given", {}, _given(package, str(body["package"])))
            elif answer is not None and answer.kind in ("welcome", "refused"):
                return dialer, answer
        else:
            raise dialer.silent("hello", deadline_s)
    except BaseException:
        dialer.close()
        raise
    dialer.close()
    return None


def _dialled(ticket_path: str, ticket: Ticket, end: float) -> Dialer | None:
    while True:
        left = max(0.0, end - time.monotonic())
        deadline_s = min(left, DIAL_S) if ticket.master else left
        try:
            return Dialer(ticket.addresses, ticket.master_public, deadline_s=deadline_s)
        except MasterLostError:
            if deadline_s == left:
                raise
        if has_returned(ticket_path, ticket.master):
            return None


def _given(package: pathlib.Path | None, name: str) -> tuple[bytes, ...]:
    """The package, unless somebody has changed its files."""
    if package is not None:
        with contextlib.suppress(PackageError):
            data = repack(package)
            if digest(data) == name:
                return (data,)
    return ()
