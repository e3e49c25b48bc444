"""Sizes and times as people write and read them."""

from __future__ import annotations

import re

from twister2.spec.errors import UsageError

_SIZE = re.compile("([0-9]{1,10})([KMG]?)(?:I?B)?")
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
STEP = 8
"""Sizes are multiples of this many bytes, one element."""
LARGEST = 1 << 30
"""Largest size that is measured, in bytes."""


def size_of(text: str) -> int:
    """Bytes of ``8``, ``64K``, ``1M``, ``1MiB``.

    :raises UsageError: it is none, or none that can be measured.
    """
    found = _SIZE.fullmatch(text.strip().upper())
    size = int(found[1]) * _UNITS[found[2]] if found else 0
    if not 0 < size <= LARGEST or size % STEP:
        raise UsageError(
            f"{text!r} is not a size that can be measured",
            why=f"a size is a multiple of {STEP} bytes, at most {shown_size(LARGEST)}",
            remedy="write sizes like 8, 64K or 1M",
        )
    return size


def shown_size(size: int) -> str:
    """``8 B``, ``64 KiB``, ``1.5 MiB``."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size >= unit:
            return f"{size / unit:g} {name}"
    return f"{size} B"


def shown_time(seconds: float) -> str:
    """Three significant digits with a unit: ``12.3 us``."""
    for unit, name in ((1.0, "s"), (1e-3, "ms")):
        if seconds >= unit:
            return f"{significant(seconds / unit)} {name}"
    return f"{significant(seconds * 1e6)} us"


def significant(value: float) -> str:
    """Three significant digits, without an exponent."""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}"
