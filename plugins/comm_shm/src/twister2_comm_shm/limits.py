"""Descriptors that are not to be had: an error of its own, wherever the system says so."""

from __future__ import annotations

import contextlib
import errno
import resource
from typing import TYPE_CHECKING

from twister2.spec.errors import NetworkError

if TYPE_CHECKING:
    from collections.abc import Iterator


def no_descriptors(what: str, why: str = "") -> NetworkError:
    """The error of a process that may open no more files.

    :param what: what a descriptor was wanted for. :param why: what the system said.
    """
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return NetworkError(
        f"no descriptors are left for {what}",
        why=f"{why or 'the system has not passed on those of a message'}; this process may have {limit} files open",
        remedy="raise the limit of open files (ulimit -n): a worker needs some six descriptors for each peer "
        "on its host",
    )


def exhausted(error: OSError) -> bool:
    """Whether the system has refused a descriptor for want of more."""
    return error.errno in (errno.EMFILE, errno.ENFILE)


@contextlib.contextmanager
def descriptors_for(what: str) -> Iterator[None]:
    """What lies within makes descriptors.

    :raises NetworkError: there are no more; other errors are left as they are.
    """
    try:
        yield
    except OSError as error:
        if exhausted(error):
            raise no_descriptors(what, str(error)) from error
        raise
