"""The launcher: a small process that forks the copies of the worker command and writes down how they end.

Run by :mod:`twister2_rm_standalone.spawn`, importing next to nothing: its start-up time is part of every job's. It is
single-threaded, ends when its last copy has ended, and takes no commands: who wants a slot again starts another
launcher, who wants a copy gone signals it.

The worker command ``python -m twister2.worker`` is imported once here and forked: N copies cost one start-up and share
their memory. Any other command is executed.

Nothing a copy started outlives the launcher: copies are told when it dies (PR_SET_PDEATHSIG), processes that lost their
parent become its children (PR_SET_CHILD_SUBREAPER), and it kills what is left of a copy's session when the copy ends,
and everything that is left when the last one has.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import re
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, NoReturn

from twister2_rm_standalone import procfs

if TYPE_CHECKING:
    from twister2_rm_standalone.world import MpiexecWorld

PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36

FORKED_MODULE = "twister2.worker"
SUPERVISOR = "twister2.worker.supervisor"
TICK_S = 2.0
"""How often the sizes of the log files and the walltime are looked at."""

WALLTIME_GRACE_S = 3.0
CUT_MARK = b"[earlier output was cut off"
CUT = re.compile(re.escape(CUT_MARK) + rb": (\d+) bytes\]\n")


def main(path: str) -> int:
    """Start what the order at ``path`` asks for, wait for the end of it, keep the journal.

    :param path: the order's file; ``"-"``: load what the workers need, then read the path from stdin. Its end without a
        path means that no order comes.
    """
    gc.disable()  # until it forks: what is imported stays
    if path == procfs.BY_PIPE:
        with contextlib.suppress(Exception):  # tried again, with a log to tell it in, when the order has come
            importlib.import_module(SUPERVISOR)
        path = sys.stdin.readline().rstrip("\n")
        if not path:
            return 0
    with open(path, encoding="utf-8") as file:
        order = json.load(file)
    os.unlink(path)
    os.environ.update(order["environment"])
    log = os.path.join(order["logs"], "launcher.log")
    for number, name, flags in ((0, os.devnull, os.O_RDONLY), (1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)):
        opened = os.open(name, flags, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    os.dup2(1, 2)
    try:
        os.chdir(order["cwd"])
    except OSError:
        os.chdir(order["logs"])
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        return Launcher(order, libc).run()
    finally:
        gc.freeze()  # else the end of the interpreter looks through everything for cycles


class Launcher:
    """One order: some slots of a job, each a copy of the command."""

    def __init__(self, order: dict[str, Any], libc: Any) -> None:
        self.order, self.libc = order, libc
        self.forked = order["command"] == [sys.executable, "-m", FORKED_MODULE]
        self.pid = os.getpid()
        self.copies: dict[int, int] = {}
        self.world: MpiexecWorld | None = None
        self.overdue = False
        self.signals = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT}
        self.journal = os.open(order["journal"], os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self.unwritten: list[str] = []
        """Lines that the journal has not got yet, because the disk is full."""
        self.torn = False
        """Half of the first of them was written. Readers pass over that."""
        self.cgroups: Any = None
        if order["cgroups"]:
            self.cgroups = importlib.import_module("twister2_rm_standalone.cgroups")

    def run(self) -> int:
        command = self.order["command"]
        supervisor = importlib.import_module(SUPERVISOR) if self.forked else None
        if self.order.get("world"):
            from twister2_rm_standalone.world import MpiexecWorld, WorldError

            try:
                self.world = MpiexecWorld(self.order)
            except WorldError as error:
                os.write(2, f"{error}\n".encode())
                return 1
        signal.pthread_sigmask(signal.SIG_BLOCK, self.signals)
        gc.freeze()
        gc.enable()
        lines = []
        for slot in self.order["slots"]:
            if self._killed():
                break
            confined = self._group(slot)
            pid = os.fork()
            if pid == 0:
                self._become_copy(slot, confined)
                if self.world is not None:
                    self.world.enter(slot)
                if supervisor is None:
                    execute(command)
                sys.argv = [command[0], *command[3:]]
                sys.exit(supervisor.main())
            self.copies[pid] = slot
            lines.append(f"start {slot} {pid} {procfs.start_of(pid)} {os.getpid()}\n")
        self._write(*lines)
        while self.copies:
            self._wait()
        if self.world is not None:
            self.world.end()
        self._end_strays()
        self._write()
        return 0

    def _group(self, slot: int) -> list[str]:
        """Make the control group of a copy; the copy ends, with a word, when it cannot enter it."""
        order = self.order
        if not order["cgroups"]:
            return []
        cpus, memory_mb = order["wants"][str(slot)]
        try:
            return [*self.cgroups.make(order["cgroups"], self._group_name(slot), cpus, int(memory_mb))]
        except OSError as error:
            return [error.filename or "its control group"]

    def _group_name(self, slot: int) -> str:
        return str(self.cgroups.name_of(self.order["job_id"], slot))

    def _confine(self, slot: int, folders: list[str]) -> None:
        """Have this copy, and all that it starts, in its control group and on its CPUs."""
        try:
            if folders:
                try:
                    self.cgroups.enter(folders)
                except FileNotFoundError:  # the launcher of the copy before has just removed the group
                    self.cgroups.enter(self._group(slot))
            if cpus := self.order["bindings"].get(str(slot)):
                os.sched_setaffinity(0, cpus)
        except OSError as error:
            os.write(2, f"it cannot be confined: {error.strerror} ({error.filename or 'CPUs'})\n".encode())
            os._exit(1)

    def _become_copy(self, slot: int, confined: list[str]) -> None:
        os.setsid()
        self.libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        self.libc.prctl(PR_SET_NAME, f"t2-slot-{slot}".encode(), 0, 0, 0)
        if os.getppid() != self.pid:  # the launcher died before it could be watched
            os._exit(1)
        log = os.open(log_path(self.order["logs"], slot), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        self._confine(slot, confined)
        os.close(self.journal)
        os.environ["TWISTER2_SLOT"] = str(slot)
        self.copies.clear()
        gc.unfreeze()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self.signals)

    def _killed(self) -> bool:
        return os.path.exists(self.order["killed"])

    def _write(self, *lines: str) -> None:
        """Append lines to the journal; those that cannot be written are tried again at the next tick. A full disk must
        not end copies that run.
        """
        self.unwritten += lines
        with contextlib.suppress(OSError):
            while self.unwritten:
                data = ("\n" if self.torn else "") + self.unwritten[0]
                self.torn = os.write(self.journal, data.encode()) < len(data)
                if not self.torn:
                    del self.unwritten[0]

    def _wait(self) -> None:
        received = signal.sigtimedwait(self.signals, TICK_S)
        if received is not None and received.si_signo != signal.SIGCHLD:
            self._signal_copies(signal.SIGTERM)
        deadline = self.order["deadline"]
        if deadline and time.time() > deadline:
            if not self.overdue:
                self._write(f"walltime {int(time.time())}\n")
            self.overdue = True
            self._signal_copies(signal.SIGTERM if time.time() < deadline + WALLTIME_GRACE_S else signal.SIGKILL)
        if received is None:
            self._write()
            for slot in self.copies.values():
                cut(log_path(self.order["logs"], slot), self.order["log_limit"])
        self._reap()

    def _signal_copies(self, number: int) -> None:
        for pid in self.copies:
            with contextlib.suppress(ProcessLookupError):  # ended just now; reaped next
                os.killpg(pid, number)

    def _reap(self) -> None:
        strays = False
        while True:
            try:
                # the id stays taken while what is left of the copy is ended
                info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                break
            if info is None:
                break
            slot = self.copies.pop(info.si_pid, None)
            # a supervisor that ends in its own time has ended what its user's program left
            orderly = self.forked and info.si_code == os.CLD_EXITED and info.si_status == 0
            if slot is not None and not orderly:
                strays = True
                everyone = [*procfs.processes()]
                for process in procfs.slot_members(self.order["job_id"], slot, info.si_pid, everyone):
                    process.signal(signal.SIGKILL)
            os.waitpid(info.si_pid, 0)
            if slot is not None:
                code = info.si_status if info.si_code == os.CLD_EXITED else 128 + info.si_status
                self._write(f"end {slot} {info.si_pid} {code}\n")
                if self.order["cgroups"]:
                    self.cgroups.remove(self.order["cgroups"], self._group_name(slot))
        if strays and self.forked:
            # supervisors adopt the orphans of their users' programs: who comes to us lost his supervisor
            self._kill_strays()

    def _kill_strays(self) -> None:
        me, world = os.getpid(), self.world.pid if self.world is not None else 0
        for process in procfs.processes():
            if process.parent == me and process.pid not in self.copies and process.pid != world:
                process.signal(signal.SIGKILL)

    def _end_strays(self) -> None:
        """Kill what the copies left behind; whoever loses its parent by that becomes a child and is next.

        Children that are told to die with their parent (fork servers) are given a moment to do so.
        """
        patience = 10
        while True:
            try:
                ended, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if ended:
                continue
            if patience:
                patience -= 1
                signal.sigtimedwait(self.signals, 0.01)
            else:
                self._kill_strays()
                os.waitpid(-1, 0)


def log_path(folder: str, slot: int) -> str:
    """The file with what the copies of a slot wrote outside the control channel."""
    return os.path.join(folder, f"slot-{slot}.log")


def cut(path: str, limit: int) -> None:
    """Keep the last quarter of a log file that has grown past its limit (bytes); writers append, so they go on.

    The first line then says how much was cut off, by which readers see that it was. What is written in the very moment
    in which the file is emptied is lost.
    """
    try:
        size = os.stat(path).st_size
        if size <= limit:
            return
        with open(path, "r+b", buffering=0) as file:
            before = CUT.fullmatch(file.readline(len(CUT_MARK) + 24))
            gone = (int(before[1]) - len(before[0]) if before else 0) + size - limit // 4
            file.seek(size - limit // 4)
            tail = bytearray()
            while more := file.read():  # with all that was appended meanwhile
                tail += more
            file.truncate(0)
        with open(path, "ab", buffering=0) as file:
            file.write(b"%s: %d bytes]\n%s" % (CUT_MARK, gone, tail))
    except OSError:
        return  # a log that cannot be cut must not end the job


def execute(command: list[str]) -> NoReturn:
    """Become the command; 127 with a line in the log when it cannot be."""
    try:
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"cannot start {command[0]!r}: {error.strerror}\n".encode())
        os._exit(127)
