"""The limit on open files (``ulimit -n``): what a job needs of it, and errors that name it."""

from __future__ import annotations

import contextlib
import errno
import resource
import sys

from twister2.spec.errors import ResourceError, ResourcesExceededError
from twister2.spec.tracebacks import frames, is_ours, module_of

BASE = 24
"""Descriptors that client, job master and each worker need, whatever the program does."""
PER_PEER = 7
"""Those of a worker for each peer on its host with which it exchanges large messages; others take fewer."""
RAISED = 1 << 16
"""Workers and job master raise their limit to that many, if they may: programs that close every descriptor there could
be take long with the largest limits.
"""


def limit() -> int:
    """How many files this process may have open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def raised_limit() -> int:
    """How many files a process may have open that has raised its limit (:func:`raise_limit`)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return soft
    return max(soft, RAISED if hard == resource.RLIM_INFINITY else min(hard, RAISED))


def raise_limit() -> None:
    """Raise this process's limit as far as it may. For processes that are ours alone: those it starts inherit it."""
    with contextlib.suppress(OSError, ValueError):  # not allowed: it is checked where descriptors are needed
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised_limit(), resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def check_limit(n_workers: int) -> None:
    """Refuse what could not even start. Job master and workers raise their limit, so that the raised one counts.

    :raises ResourcesExceededError: the limit is too small for the processes of a job of so many workers on this host.
    """
    allowed = raised_limit()
    if allowed != resource.RLIM_INFINITY and allowed < BASE + n_workers:
        raise ResourcesExceededError(
            f"this process may have {allowed} files open, too few for a job of {n_workers} workers",
            why=f"the job master needs {BASE + n_workers}, and a worker up to {_of_worker(n_workers)} "
            "where all talk to each other",
            remedy=f"raise the limit (ulimit -n {_advised(n_workers)})",
            where="limit on open files (ulimit -n)",
        )


def out_of_descriptors(error: BaseException) -> bool:
    """Whether it says that no more files may be opened."""
    return isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)


def none_left(error: BaseException, worker: object) -> ResourceError | None:
    """The error when code of ours got no descriptor; None when it was the program's own."""
    for name in reversed([module_of(at) for at in frames(error)]):
        if name.partition(".")[0] not in sys.stdlib_module_names:
            if not is_ours(name):
                return None
            break
    return ResourceError(
        f"no descriptors are left in worker {worker}: it may have {limit()} files open",
        why=f"{error}; a worker needs some {BASE} for itself and {PER_PEER} for each peer on its host, and those of "
        "its program",
        remedy=f"raise the limit ({hint()})",
        where="limit on open files",
    )


def hint() -> str:
    """How the limit is raised, in words."""
    return f"ulimit -n before the job is submitted; it is {limit()}"


def _of_worker(n_workers: int) -> int:
    return BASE + PER_PEER * (n_workers - 1)


def _advised(n_workers: int) -> int:
    return max(1024, 2 * _of_worker(n_workers))
