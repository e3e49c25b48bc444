"""PMI-1 for a user process: how plain processes, started by supervisors, become one MPI world.

MPI libraries of the MPICH family ask a *process manager* for their rank and exchange addresses through it. The
supervisor plays that part for its own user process; the exchange itself goes through the job master.

What the user process must get
    One end of ``socket.socketpair()`` and three environment variables:

    ``PMI_FD``
        Number of that descriptor in the user process, where it must be open. A process that is forked from the one that
        made the pair has it; a fork server gets it with ``socket.send_fds``; before an exec it is marked with
        ``os.set_inheritable(fd, True)``.
    ``PMI_RANK``
        Worker id. ``PMI_SIZE``: number of workers.

    Nothing else whose name begins with ``PMI_`` or ``PMIX_`` may be left over from an outer launcher, nor may
    ``HYDRA_*``, ``HYDI_*``, ``MPI_LOCALRANKID``, ``MPI_LOCALNRANKS``; :func:`environment` gives all changes. As the
    process is forked from one whose C environment is set already, ``os.environ`` must be changed (it calls ``putenv``)
    before ``mpi4py.MPI`` is imported. A user process lives for one attempt, and MPI can be initialised once in a
    process: every attempt has new pairs, a new service and a new ``kvsname``, unique on the host. MPICH names its
    shared segments after it: two worlds with one name destroy each other.

What the supervisor does
    Keeps the other end in :class:`PmiService`, calls :meth:`PmiService.on_readable` when it polls readable, sends what
    ``fence`` was called with to the master, and calls :meth:`PmiService.fence_done` with the union of all ranks' puts
    when the master has one fence from every rank. Fences of a rank are strictly one after another; MPICH makes about
    three in its init and one in its finalize, so the master counts them.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

KVSNAME_MAX = 256
KEY_MAX = 64
VALUE_MAX = 1024
_LINE_MAX = 4096
_FOREIGN = ("PMI_", "PMIX_", "HYDRA_", "HYDI_", "MPI_LOCAL")


def environment(rank: int, size: int, fd: int, inherited: Iterable[str]) -> dict[str, str | None]:
    """Changes to the user process's environment; None removes a variable.

    :param rank: worker id. :param size: number of workers. :param fd: the process's end of the socket pair.
    :param inherited: names of the variables it would have without the changes.
    """
    changes: dict[str, str | None] = {name: None for name in inherited if name.startswith(_FOREIGN)}
    return {**changes, "PMI_FD": str(fd), "PMI_RANK": str(rank), "PMI_SIZE": str(size)}


def process_mapping(nodes: Sequence[str]) -> str:
    """Which ranks share a node, as MPICH reads it: blocks of (first node, nodes, ranks on each).

    >>> process_mapping(["a", "a", "b", "b"])
    '(vector,(0,1,2),(1,1,2))'

    :param nodes: a name of the node of each rank (equal names share memory).
    """
    numbers: dict[str, int] = {}
    blocks: list[list[int]] = []
    for name in nodes:
        number = numbers.setdefault(name, len(numbers))
        if blocks and blocks[-1][0] == number:
            blocks[-1][1] += 1
        else:
            blocks.append([number, 1])
    return "(vector," + ",".join(f"({node},1,{count})" for node, count in blocks) + ")"


class PmiService:
    """Serves one user process. Never blocks; all methods are called by one thread.

    :param rank: worker id. :param size: number of workers.
    :param kvsname: name of the key space: equal for all ranks, other in every attempt.
    :param fence: called with the keys put since the last fence when the process enters one.
    :param mapping: :func:`process_mapping` of the attempt; MPICH takes every rank for a node of its own without it.
    """

    def __init__(
        self, rank: int, size: int, kvsname: str, fence: Callable[[dict[str, str]], None], *, mapping: str = ""
    ) -> None:
        self._rank, self._size, self._kvsname, self._fence = rank, size, kvsname[: KVSNAME_MAX - 1], fence
        self._ours, theirs = socket.socketpair()
        self._theirs: socket.socket | None = theirs
        self._ours.setblocking(False)
        self._read = b""
        self._unwritten = b""
        self._puts: dict[str, str] = {}
        self._known: dict[str, str] = {"PMI_process_mapping": mapping} if mapping else {}
        self.in_fence = False
        self.initialised = False
        self.finalized = False
        self.closed = False
        self.abort: tuple[int, str] | None = None
        """Exit code and message when the process has called ``MPI_Abort``."""

    def fileno(self) -> int:
        """The supervisor's end; poll it for reading, and for writing while :attr:`wants_write`."""
        return self._ours.fileno()

    @property
    def process_fd(self) -> int:
        """The process's end, for ``PMI_FD``.

        :raises ValueError: :meth:`release_process_fd` was called.
        """
        if self._theirs is None:
            raise ValueError("the process's end was given away")
        return self._theirs.fileno()

    def release_process_fd(self) -> None:
        """Close the process's end here, once the process has its own copy: its death is then seen as an end of file."""
        if self._theirs is not None:
            self._theirs.close()
            self._theirs = None

    def use_mapping(self, mapping: str) -> None:
        """Give :func:`process_mapping` of the attempt once it is known, before the process initialises MPI."""
        self._known["PMI_process_mapping"] = mapping

    @property
    def wants_write(self) -> bool:
        """Whether an answer did not fit into the socket yet; call :meth:`on_writable` when it polls writable."""
        return bool(self._unwritten)

    def on_readable(self) -> None:
        """Take in and answer what the process asked. Sets :attr:`closed` at its end."""
        try:
            data = self._ours.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.closed = True
            return
        *lines, self._read = (self._read + data).split(b"\n")
        if len(self._read) > _LINE_MAX:
            self.closed = True  # not PMI-1
            return
        for line in lines:
            self._on_line(line.decode("utf-8", "replace"))

    def on_writable(self) -> None:
        """Write on."""
        self._write(b"")

    def fence_done(self, all_puts: Mapping[str, str]) -> None:
        """All ranks are in the fence; these are the keys they put. Lets the process go on."""
        self._known.update(all_puts)
        if self.in_fence:
            self.in_fence = False
            self._answer("barrier_out", rc="0")

    def close(self) -> None:
        """Release both ends. Idempotent."""
        self.closed = True
        self.release_process_fd()
        self._ours.close()

    def _on_line(self, line: str) -> None:
        command, values = parse(line)
        if command == "init":
            self.initialised = True
            self._answer("response_to_init", rc="0", pmi_version="1", pmi_subversion="1")
        elif command == "get_maxes":
            self._answer(
                "maxes", rc="0", kvsname_max=str(KVSNAME_MAX), keylen_max=str(KEY_MAX), vallen_max=str(VALUE_MAX)
            )
        elif command == "get_appnum":
            self._answer("appnum", rc="0", appnum="0")
        elif command == "get_my_kvsname":
            self._answer("my_kvsname", rc="0", kvsname=self._kvsname)
        elif command == "get_universe_size":
            self._answer("universe_size", rc="0", size=str(self._size))
        elif command == "put":
            self._put(values)
        elif command == "get":
            self._get(values)
        elif command == "barrier_in":
            self.in_fence = True
            puts, self._puts = self._puts, {}
            self._fence(puts)
        elif command == "finalize":
            self.finalized = True
            self._answer("finalize_ack", rc="0")
        elif command == "abort":
            code = values.get("exitcode", "1")
            self.abort = (int(code) if code.lstrip("-").isdigit() else 1, values.get("message", ""))
        elif command:
            # spawn, name publishing, enumeration: no dynamic processes here
            self._answer(f"{command}_result", rc="-1", msg="not_supported")

    def _put(self, values: Mapping[str, str]) -> None:
        key, value = values.get("key", ""), values.get("value", "")
        if values.get("kvsname") != self._kvsname:
            self._answer("put_result", rc="-1", msg="unknown_kvsname")
        elif not key or len(key) >= KEY_MAX or len(value) >= VALUE_MAX:
            self._answer("put_result", rc="-1", msg="bad_length")
        else:
            self._puts[key] = self._known[key] = value
            self._answer("put_result", rc="0", msg="success")

    def _get(self, values: Mapping[str, str]) -> None:
        found = self._known.get(values.get("key", "")) if values.get("kvsname") == self._kvsname else None
        if found is None:
            self._answer("get_result", rc="-1", msg="key_not_found", value="unknown")
        else:
            self._answer("get_result", rc="0", msg="success", value=found)

    def _answer(self, command: str, **values: str) -> None:
        text = " ".join([f"cmd={command}", *(f"{key}={value}" for key, value in values.items())])
        self._write(text.encode() + b"\n")

    def _write(self, data: bytes) -> None:
        self._unwritten += data
        try:
            sent = self._ours.send(self._unwritten, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return
        except OSError:
            self.closed, self._unwritten = True, b""
            return
        self._unwritten = self._unwritten[sent:]


def parse(line: str) -> tuple[str, dict[str, str]]:
    """Command and values of one line: ``cmd=put kvsname=k key=a value=b``. A value reaches up to the next blank.

    >>> parse("cmd=get kvsname=k key=a")
    ('get', {'kvsname': 'k', 'key': 'a'})
    """
    values: dict[str, str] = {}
    for word in line.split():
        key, equals, value = word.partition("=")
        if equals:
            values[key] = value
    return values.pop("cmd", ""), values
