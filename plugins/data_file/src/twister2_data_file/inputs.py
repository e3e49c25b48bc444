"""What a read request names: every file once, in the order of the request, or one error for all that is wrong."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

from twister2.spec.data import Split
from twister2.spec.errors import DataAccessError, DataNotFoundError, UsageError
from twister2.spec.uris import without_secrets
from twister2_data_file.compression import packing_of
from twister2_data_file.options import MIB
from twister2_data_file.problems import not_found, unreadable
from twister2_data_file.stores import FoundFile, store_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SMALLEST_SPLIT = 1 << 18
SPLITS_PER_TASK = 4
"""Pieces per task a file is cut into when there is little input: runs of splits can then have close sums."""


def find_files(uris: Sequence[str]) -> list[FoundFile]:
    """All files that ``uris`` name; a file that several of them name comes once, where it was first.

    :raises DataNotFoundError: paths that do not exist and globs without a match, all at once.
    :raises DataAccessError: files that cannot be read, all at once, when none is missing.
    """
    if not uris:
        raise UsageError("nothing to read", why="no path was given", remedy="give a path, a glob or a URI")
    found: dict[str, FoundFile] = {}
    missing, refused = [], []
    for uri in uris:
        store, path = store_of(uri)
        try:
            for file in store.match(path):
                found.setdefault(file.path, file)
        except DataNotFoundError as error:
            link = error.where if error.where and os.path.islink(error.where) else ""
            missing.append((link or uri, error.why))
        except DataAccessError as error:
            refused.append((error.where or uri, error.why))
        except OSError as error:
            refused.append((str(error.filename or uri), error.strerror or str(error)))
    if missing:
        raise not_found(missing)
    if refused:
        raise unreadable(refused)
    return list(found.values())


def split_size(files: Iterable[FoundFile], n_tasks: int, split_mb: float) -> int:
    """Bytes of the largest split: ``split_mb``, or less when the tasks could not share the input evenly otherwise."""
    largest = max(1, int(split_mb * MIB))
    total, pieces = sum(file.size for file in files), max(1, n_tasks * SPLITS_PER_TASK)
    # A whole number of rounds, sizes rounded up: one split more or less than that cannot be shared evenly.
    rounds = max(1, -(-total // (pieces * largest)))
    share = -(-total // (pieces * rounds))
    return min(largest, max(SMALLEST_SPLIT, share))


def cut(file: FoundFile, size: int, *, whole: bool, record: int = 1) -> list[Split]:
    """Splits of one file, as even as possible and none above ``size``; one when it has to be read ``whole``.

    :param record: they are cut at multiples of so many bytes, of which the file is one, and are at least so long.
    """
    if file.empty:
        return []
    shown = without_secrets(file.path)
    if whole or file.whole or packing_of(file.path) is not None:
        return [Split(shown, {"path": file.path, "start": 0, "end": None}, file.size)]
    n_records = file.size // record
    n_parts = min(-(-file.size // size), n_records)
    bounds = [n_records * part // n_parts * record for part in range(n_parts + 1)]
    splits = []
    for start, end in itertools.pairwise(bounds):
        label = shown if n_parts == 1 else f"{shown} [{start}, {end})"
        splits.append(Split(label, {"path": file.path, "start": start, "end": end}, end - start))
    return splits
