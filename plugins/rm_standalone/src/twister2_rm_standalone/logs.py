"""What the copies wrote outside the control channel, file by file, oldest first within a file."""

from __future__ import annotations

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


def read_logs(folder: Path, slot: int | None, follow: bool, ended: Callable[[], bool]) -> Iterator[LogChunk]:
    """Yield what is there, and with ``follow`` what comes, until the job has ended."""
    positions: dict[str, int] = {}
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


def _new(path: Path, positions: dict[str, int]) -> Iterator[LogChunk]:
    number = _slot(path.name)
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size < positions.get(path.name, 0):
                positions[path.name] = 0  # it was cut: begin with what is left
            file.seek(positions.get(path.name, 0))
            while data := file.read(CHUNK_BYTES):
                positions[path.name] = file.tell()
                stream: Literal["manager", "stderr"] = "manager" if number == MANAGER_SLOT else "stderr"
                # a character cut in two at the end of what is there shows as a replacement; start-up text is short
                yield LogChunk(number, stream, data.decode("utf-8", "replace"))
    except FileNotFoundError:
        return
