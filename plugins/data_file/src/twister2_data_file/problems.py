"""Errors of this plugin, made from what the operating system and pyarrow raise."""

from __future__ import annotations

import errno
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from twister2.spec.errors import DataAccessError, DataError, DataFormatError, DataNotFoundError
from twister2.spec.uris import without_secrets

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
MOST_NAMED = 20
"""How many paths one error text lists; ``details`` has all."""


def named(items: Iterable[str]) -> str:
    """Join for a sentence, cut after :data:`MOST_NAMED`."""
    every = list(items)
    rest = len(every) - MOST_NAMED
    return ", ".join(every[:MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def not_found(problems: Iterable[tuple[str, str]]) -> DataNotFoundError:
    """All inputs that are missing: ``(path, reason)``."""
    every = _shown(problems)
    return DataNotFoundError(
        f"no such input: {named(path for path, _ in every)}",
        why=named(f"{path}: {reason}" for path, reason in every),
        remedy=_remedy_of_missing([reason for _, reason in every]),
        details={"paths": [path for path, _ in every]},
    )


def _shown(problems: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(without_secrets(path), without_secrets(reason)) for path, reason in problems]


def _remedy_of_missing(reasons: list[str]) -> str:
    if all("symbolic link" in reason for reason in reasons):
        return "mend or remove the link"
    if all("holds no files" in reason for reason in reasons):
        return "name a folder with files in it; a pattern such as folder/.* reads hidden ones"
    return "check the spelling, and that the path exists on the host that reads it"


def unreadable(problems: Iterable[tuple[str, str]]) -> DataAccessError:
    """All inputs that exist but cannot be read: ``(path, reason)``."""
    every = _shown(problems)
    return DataAccessError(
        f"cannot read {named(path for path, _ in every)}",
        why=named(f"{path}: {reason}" for path, reason in every),
        remedy=_remedy_of_unreadable(every),
        details={"paths": [path for path, _ in every]},
    )


def _remedy_of_unreadable(problems: list[tuple[str, str]]) -> str:
    if all("not a regular file" in reason for _, reason in problems):
        return "copy what comes out of it to a file, or leave it out"
    if all("://" in path for path, _ in problems):
        return "see that every worker reaches the store, and that it gives the files to this user"
    return "give the user who runs the workers the right to read them, or leave them out"


def not_the_format(path: str, what: str, why: str, remedy: str, where: str = "") -> DataFormatError:
    """A file that does not hold what it should."""
    path, where, why = without_secrets(path), without_secrets(where), without_secrets(why)
    return DataFormatError(f"{path}: {what}", why=why, remedy=remedy, where=where, details={"path": path})


def check_columns(path: str, wanted: Iterable[str], there: Iterable[str]) -> None:
    """
    :raises DataFormatError: the file lacks a wanted column.
    """
    there = list(there)
    missing = next((name for name in wanted if name not in there), None)
    if missing is not None:
        raise not_the_format(
            path, f"has no column {missing!r}", f"its columns are {there}", "name columns that are there"
        )


def free_space(path: str) -> str:
    """Free space of the file system that holds ``path`` or its nearest existing parent, in words."""
    folder = Path(path).absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return "the free space is not known"
    return f"{usage.free:,} of {usage.total:,} bytes are free there"


@contextmanager
def reading(path: str) -> Iterator[None]:
    """Turn an error of the operating system into one that names ``path``."""
    try:
        yield
    except FileNotFoundError as error:
        raise not_found([(path, "it was there when the input was listed" if error.errno else str(error))]) from error
    except DataError:
        raise
    except OSError as error:
        raise unreadable([(path, error.strerror or str(error))]) from error


@contextmanager
def writing(path: str) -> Iterator[None]:
    """Turn an error of the operating system into one that names ``path`` and, when it is full, the free space."""
    path = without_secrets(path)
    try:
        yield
    except DataError:
        raise
    except OSError as error:
        full = error.errno in _NO_SPACE
        limited = error.errno == errno.EFBIG
        what = "a limit on the size of files is reached" if limited else "the disk or a quota is full"
        room = "raise the limit on the size of files (ulimit -f)" if limited else "make room or write elsewhere"
        raise DataAccessError(
            f"cannot write {path}: {error.strerror or error}",
            why=f"{what}: {free_space(path)}" if full else (error.strerror or str(error)),
            remedy=f"{room}; what was committed before is unharmed"
            if full
            else "write to a folder that this user may write to",
            where=path,
            details={"path": path, "errno": error.errno},
        ) from error
