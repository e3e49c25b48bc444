"""The keys of a job and the tickets that carry them to its processes.

The client makes everything before anything starts: the master's CURVE pair, the key by which clients of the job prove
themselves, and the first attempt's join key. Workers get the *ticket*; the master gets the *master ticket*
(:mod:`twister2.control.master_ticket`), which also has its secret key.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pathlib
import time

import attrs

from twister2.spec.errors import DeadlineError, JobFailedError
from twister2.spec.files import sync_folder
from twister2.spec.values import Value


@attrs.frozen(eq=False, repr=False)
class Ticket(Value):
    """What a worker needs to reach and prove itself to the master.

    :ivar addresses: ``ipc://`` and ``tcp://`` addresses of the master; empty until it listens.
    :ivar master_public: the master's CURVE key (Z85). :ivar join_key: good once per (attempt, slot).
    :ivar master: which life of the master published it, from 1, where its manager starts it again; else 0.
    """

    job_id: str
    attempt: int
    addresses: tuple[str, ...]
    master_public: str
    join_key: str = attrs.field(repr=False)
    master: int = 0

    def encode(self) -> bytes:
        return json.dumps(attrs.asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> Ticket:
        values = json.loads(data)
        return cls(**{**values, "addresses": tuple(values["addresses"])})


def new_key() -> str:
    """A random secret of 256 bits as text."""
    import secrets

    return secrets.token_hex(32)


def same_secret(given: object, expected: str) -> bool:
    """Compare in constant time what a peer sent, whatever that is."""
    import secrets

    return secrets.compare_digest(str(given).encode(), expected.encode())


def curve_pair() -> tuple[str, str]:
    """A new CURVE key pair ``(public, secret)`` as Z85 text."""
    import zmq

    public, secret = zmq.curve_keypair()
    return public.decode(), secret.decode()


def wait_for_ticket(path: str, *, older_than: int, deadline_s: float) -> Ticket:
    """Read the ticket where it lies until it has addresses and an attempt number above ``older_than``.

    :raises DeadlineError: the master did not publish its addresses in time.
    """
    end = time.monotonic() + deadline_s
    pause = 0.005
    why = "no ticket yet"
    while True:
        try:
            ticket = Ticket.decode(pathlib.Path(path).read_bytes())
            if ticket.addresses and ticket.attempt > older_than:
                return ticket
            why = "the ticket has no address of the job master yet" if not ticket.addresses else "no newer attempt yet"
        except FileNotFoundError:
            why = "the ticket is not there"
        except (OSError, ValueError, KeyError, TypeError) as error:
            why = f"the ticket cannot be read: {error}"
        if time.monotonic() > end:
            raise DeadlineError(
                f"worker waited {deadline_s:g} s for the job master",
                why=why,
                remedy="see the job master's log; raise job.start_deadline_s when the cluster is slow to start it",
                where=path,
            )
        time.sleep(pause)
        pause = min(pause * 1.5, 0.5)


def write_private(path: str | os.PathLike[str], data: bytes, *, durable: bool = False) -> None:
    """Write a file only its owner can read, atomically.

    :param durable: it, and its folder, outlive a power cut once this has returned; takes some milliseconds.
    """
    temporary = f"{os.fspath(path)}.{os.getpid()}.new"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if durable:
            folder = os.path.dirname(os.path.abspath(path))
            for each in (folder, os.path.dirname(folder)):
                sync_folder(each)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise JobFailedError(
            f"cannot write {os.fspath(path)}",
            why=str(error),
            remedy="raise the limit on the size of files (ulimit -f)"
            if error.errno == errno.EFBIG
            else "free space, or set job.state_dir to another folder",
        ) from error
