"""What a job master's process begins with: its ticket, and the package: from the client, a file, or the ticket."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import sys

import attrs

from twister2.control.master_ticket import MasterTicket
from twister2.master.abandoned import end_begun, remove_begun
from twister2.master.blocks import read_block
from twister2.master.first import step_down
from twister2.master.process import MasterProcess
from twister2.spec.errors import Twister2Error
from twister2.worker.descriptors import raise_limit


def main(folder: str = "") -> int:
    """Run the master of the ticket: on standard input (a child of the client) or at ``TWISTER2_MASTER_TICKET``.

    :param folder: for a child of the client: the job's folder, to be removed should the client go before it has sent
        the ticket.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a client may ignore it; tools that are called have exit codes
    step_down()
    raise_limit()  # it has a connection with each worker
    path = os.environ.get("TWISTER2_MASTER_TICKET")
    try:
        if path:
            ticket = MasterTicket.decode(pathlib.Path(path).read_bytes())
            package = (
                (pathlib.Path(ticket.folder) / "package").read_bytes() if ticket.has_package else ticket.unpacked()
            )
            return MasterProcess(ticket, package, None).run()
        return _run_child(pathlib.Path(folder))
    except Twister2Error as error:
        print(str(error), file=sys.stderr, flush=True)
        return 1


def _run_child(folder: pathlib.Path) -> int:
    """Three blocks come from the client: the ticket before it asks for the allocation, package and handle after."""
    data = read_block(0)
    if data is None:
        remove_begun(folder)
        return 1
    ticket = MasterTicket.decode(data)
    package, handle = read_block(0), read_block(0)
    if package is None or handle is None:
        end_begun(ticket)
        return 1
    ticket = attrs.evolve(ticket, handle=json.loads(handle))
    return MasterProcess(ticket, package, None if ticket.detached else 0).run()
