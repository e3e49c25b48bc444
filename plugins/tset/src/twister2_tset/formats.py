"""Formats of files by their names."""

from __future__ import annotations

import os
import re
from typing import Final

from twister2.spec.errors import UsageError
from twister2.spec.uris import without_secrets

FORMATS: Final = {
    ".txt": "text",
    ".text": "text",
    ".log": "text",
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
    ".bin": "binary",
}
"""By suffix."""

_PACKED: Final = (".gz", ".bz2", ".xz", ".zst")


def format_of(uri: str | os.PathLike[str], step: str) -> str:
    """The format that a path, glob or URI names by its suffix; a suffix of compression is looked behind.

    :raises UsageError: it names none.
    """
    name = os.fspath(uri)
    if re.match(r"https?://", name):
        name = re.split(r"[?#]", name)[0]
    name = name.rstrip("/*").lower()
    stem, suffix = os.path.splitext(name)
    if suffix in _PACKED:
        suffix = os.path.splitext(stem)[1]
    if suffix in FORMATS:
        return FORMATS[suffix]
    raise UsageError(
        f"{step}: {without_secrets(os.fspath(uri))!r} does not say its format",
        why=f"the suffixes are {', '.join(FORMATS)}, also followed by {', '.join(_PACKED)}",
        remedy="use one of them, or name the format: read_csv, write_csv...",
        where=step,
    )
