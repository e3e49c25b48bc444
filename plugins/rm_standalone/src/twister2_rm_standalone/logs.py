"""What the copies wrote outside the control channel, file by file, oldest first within a file."""

from __future__ import annotations

import contextlib
import os
import re
import time
from typing import TYPE_CHECKING, Literal

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


Places = dict[str, tuple[int, bytes]]
"""How far files were read, by name: bytes, and the first bytes at that time."""


def read_logs(folder: Path, slot: int | None, follow: bool, ended: Callable[[], bool]) -> Iterator[LogChunk]:
    """Yield what is there, and with ``follow`` what comes, until the job has ended."""
    positions: Places = {}
    while True:
        last = not follow or ended()
        yield from new_chunks(folder, slot, positions)
        if last:
            return
        time.sleep(POLL_S)


def new_chunks(folder: Path, slot: int | None, positions: Places) -> Iterator[LogChunk]:
    """What was written since the last look, of which ``positions`` tells; it is brought up to date."""
    for path in _files(folder, slot):
        yield from _new(path, positions)


def is_log(name: str) -> bool:
    """Whether a file in a job's folder of logs has such a name."""
    return name == "launcher.log" or re.fullmatch(r"slot-[0-9]+\.log", name) is not None


def _files(folder: Path, slot: int | None) -> list[Path]:
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    found = [(_slot(name), name) for name in names if is_log(name)]
    return [folder / name for number, name in sorted(found) if slot is None or number == slot]


def _slot(name: str) -> int:
    return MANAGER_SLOT if name == "launcher.log" else int(name[5:-4])


def _new(path: Path, positions: Places) -> Iterator[LogChunk]:
    number = _slot(path.name)
    stream: Literal["manager", "stderr"] = "manager" if number == MANAGER_SLOT else "stderr"
    with contextlib.suppress(FileNotFoundError):
        while True:
            with open(path, "rb") as file:
                read, known = positions.get(path.name, (0, b""))
                head = file.read(HEAD_BYTES)
                if not head.startswith(known):
                    read = 0  # it was cut, and may have grown past that place again
                file.seek(read)
                data = file.read(CHUNK_BYTES)
                positions[path.name] = (file.tell(), head)
            if not data:
                return
            # a character cut in two at the end of what is there shows as a replacement; start-up text is short
            yield LogChunk(number, stream, data.decode("utf-8", "replace"))
