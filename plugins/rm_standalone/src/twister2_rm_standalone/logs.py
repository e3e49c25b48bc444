"""What the copies wrote outside the control channel, file by file, oldest first within a file."""

from __future__ import annotations

import contextlib
import os
import re
import time
from typing import TYPE_CHECKING, Literal, NamedTuple

from twister2.spec.rm import LogChunk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MANAGER_SLOT = -1
"""Slot of what the launcher itself wrote."""

POLL_S = 0.1
CHUNK_BYTES = 65536
HEAD_BYTES = 64
"""Enough of the first line to see that a file was cut since it was last looked at."""


class _Place(NamedTuple):
    """How far a file was read.

    :ivar read: bytes. :ivar head: its first bytes at that time.
    """

    read: int
    head: bytes


def read_logs(folder: Path, slot: int | None, follow: bool, ended: Callable[[], bool]) -> Iterator[LogChunk]:
    """Yield what is there, and with ``follow`` what comes, until the job has ended."""
    positions: dict[str, _Place] = {}
    while True:
        last = not follow or ended()
        for path in _files(folder, slot):
            yield from _new(path, positions)
        if last:
            return
        time.sleep(POLL_S)


def _files(folder: Path, slot: int | None) -> list[Path]:
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    found = [(_slot(name), name) for name in names if name == "launcher.log" or re.fullmatch(r"slot-\d+\.log", name)]
    return [folder / name for number, name in sorted(found) if slot is None or number == slot]


def _slot(name: str) -> int:
    return MANAGER_SLOT if name == "launcher.log" else int(name[5:-4])


def _new(path: Path, positions: dict[str, _Place]) -> Iterator[LogChunk]:
    number = _slot(path.name)
    stream: Literal["manager", "stderr"] = "manager" if number == MANAGER_SLOT else "stderr"
    with contextlib.suppress(FileNotFoundError):
        while True:
            with open(path, "rb") as file:
                place = positions.get(path.name, _Place(0, b""))
                head = file.read(HEAD_BYTES)
                if not head.startswith(place.head):
                    place = _Place(0, b"")  # it was cut, and may have grown past that place again
                file.seek(place.read)
                data = file.read(CHUNK_BYTES)
                positions[path.name] = _Place(file.tell(), head)
            if not data:
                return
            # a character cut in two at the end of what is there shows as a replacement; start-up text is short
            yield LogChunk(number, stream, data.decode("utf-8", "replace"))
