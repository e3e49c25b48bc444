"""Small pieces of Linux that supervisors need: death signals, sub-reaping, process trees, file descriptors."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time

from twister2.spec.processes import await_ends

UNSEEN = 1 << 16
"""In place of the exit code of a process whose end nobody saw."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int, signal_number: int = signal.SIGKILL) -> None:
    """Get ``signal_number`` when the parent process ends; end now if it already has."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, so that they can be found and ended."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(root: int) -> list[int]:
    """Process ids below ``root``, parents first."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            children.setdefault(int(_stat(int(entry))[1]), []).append(int(entry))
    found: list[int] = []
    todo = [root]
    while todo:
        for child in children.get(todo.pop(), []):
            found.append(child)
            todo.append(child)
    return found


def end_process(pid: int, signal_number: int) -> None:
    """Signal a process that may already be gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal_number)


def end_leftovers(root: int, *, keep: set[int], below_kept: bool = False, grace_s: float) -> None:
    """End what is left below ``root`` but processes in ``keep`` and, unless ``below_kept``, what is below those.

    TERM first, after ``grace_s`` seconds KILL, until nothing is left (at most 5 s more).
    """
    deadline = time.monotonic() + grace_s
    told: set[int] = set()
    while time.monotonic() < deadline + 5.0:
        reap()
        children = own_children() if root == os.getpid() else None
        if children is not None and (not children or (not below_kept and children <= keep)):
            return
        alive = [pid for pid in descendants(root) if pid not in keep and not _is_zombie(pid)]
        alive = [pid for pid in alive if below_kept or not _is_below(pid, keep)]
        if not alive:
            reap()  # what ended between the two looks
            return
        number = signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL
        for pid in alive:
            if number == signal.SIGKILL or pid not in told:
                end_process(pid, number)
                told.add(pid)
        await_ends(alive, 0.005)


def own_children() -> set[int] | None:
    """The children of this process, with those that have ended and were not reaped; None where the kernel does not say.

    Cheaper to find out than who is below them, which takes a look at every process of the host. A list of children is
    complete where none is taken from it meanwhile, and of this process only it itself does that.
    """
    found: set[int] = set()
    try:
        for thread in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{thread}/children", "rb") as file:
                found.update(map(int, file.read().split()))
    except OSError:
        return None
    return found


def _stat(pid: int) -> list[bytes]:
    """What follows the name in a process's line; of a process that is gone, that of an orphaned zombie."""
    try:
        file = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)  # many are read: no buffers are made
    except OSError:
        return [b"Z", b"0"]
    try:
        return os.read(file, 4096).rsplit(b")", 1)[1].split()
    except (OSError, IndexError):
        return [b"Z", b"0"]
    finally:
        os.close(file)


def runs(pid: int) -> bool:
    """Whether a process is there and has not ended; 0 is none."""
    return pid != 0 and not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    return _stat(pid)[0] == b"Z"


def _is_below(pid: int, keep: set[int]) -> bool:
    """Whether a kept process is among the ancestors of ``pid``."""
    while pid > 1:
        pid = int(_stat(pid)[1])
        if pid in keep:
            return True
    return False


def reap() -> list[tuple[int, int]]:
    """Collect ended direct children: pairs of pid and wait status."""
    ended = []
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            ended.append((pid, status))
    return ended


def close_other_descriptors(keep: set[int]) -> None:
    """Close all descriptors but 0, 1, 2 and ``keep``: a forked user process must hold nobody else's sockets."""
    low = 3
    for descriptor in sorted(keep):
        if descriptor >= low:
            os.closerange(low, descriptor)
            low = descriptor + 1
    os.closerange(low, 65536)


def launcher_descriptors() -> set[int]:
    """The descriptor on which a launcher such as ``srun --mpi=pmi2`` serves PMI to this process, if it does."""
    text = os.environ.get("PMI_FD", "")
    return {int(text)} if text.isdecimal() else set()


def resident_bytes(pid: int) -> int:
    """Resident size of a process, 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def give_back_free_pages() -> None:
    """Have the C library return memory that it keeps for later, where it can (glibc)."""
    trim = getattr(_libc, "malloc_trim", None)
    if trim is not None:
        trim(0)


def start_ticks(pid: int) -> int:
    """When a process started, in clock ticks since boot: tells it from a later one with the same id. 0: it is gone."""
    fields = _stat(pid)
    return int(fields[19]) if len(fields) > 19 and fields[0] not in (b"Z", b"X") else 0


def describe_exit(code: int) -> str:
    """An exit code as Python's ``Popen.returncode`` has it (negative: signal) in words."""
    if code == UNSEEN:
        return "an exit code that the system did not keep (SIGCHLD is ignored)"
    if code >= 0:
        also = f" (the shell's code for signal {code - 128})" if 128 < code < 160 else ""
        return f"exit code {code}{also}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = ", the kernel's out-of-memory killer or 'kill -9'" if -code == signal.SIGKILL else ""
    return f"signal {name}{hint}"
