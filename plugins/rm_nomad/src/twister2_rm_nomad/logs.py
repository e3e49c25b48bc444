"""What copies wrote, as Nomad keeps it: files of a limited size, the oldest of which it drops."""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING, Any, Literal

from twister2.spec.errors import ResourceError
from twister2.spec.rm import LogChunk
from twister2_rm_nomad.api import NotFoundError
from twister2_rm_nomad.jobspec import TASK, worker_groups
from twister2_rm_nomad.states import slot_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from twister2_rm_nomad.api import Api

Stream = Literal["stdout", "stderr"]
FOLDER = "alloc/logs"
NAME = re.compile(rf"{TASK}\.(stdout|stderr)\.(\d+)")
PIECE = 1 << 20
DROPPED = "(Nomad has dropped what was written before: it keeps the last files only)\n"


class LogReader:
    """Reads on in the logs of all allocations of a job; they may come late.

    Files are read by their numbers: Nomad's own reading of a log counts from the oldest file that there still is, and
    so from another place after each that was dropped.

    :param slot: only this slot's, None for all and the master's.
    """

    def __init__(self, api: Api, slot: int | None) -> None:
        self._api, self._slot = api, slot
        self._places: dict[tuple[str, Stream], tuple[int, int]] = {}
        self._decoders: dict[tuple[str, Stream], codecs.IncrementalDecoder] = {}

    def read(self, job: Mapping[str, Any], allocs: Sequence[Mapping[str, Any]]) -> Iterator[LogChunk]:
        """What was written since the last call. What cannot be read now is tried again at the next."""
        bases = {name: (base, count) for name, base, count in worker_groups(job)}
        for alloc in sorted(allocs, key=lambda each: int(each["CreateIndex"])):
            slot = slot_of(bases, alloc)
            if slot is None or (self._slot is not None and slot != self._slot):
                continue
            sizes = self._sizes(alloc["ID"])
            streams: tuple[Stream, Stream] = ("stdout", "stderr")
            for stream in streams:
                for text in self._texts(alloc["ID"], stream, sizes.get(stream, {})):
                    yield LogChunk(slot, stream if slot >= 0 else "manager", text)

    def _sizes(self, alloc: str) -> dict[str, dict[int, int]]:
        """Bytes of each file by stream and number; none where the copy has not started yet, or its node is gone."""
        found: dict[str, dict[int, int]] = {}
        try:
            files = self._api.get(f"/client/fs/ls/{alloc}", path=FOLDER)
        except (NotFoundError, ResourceError):
            return found
        for each in files or ():
            if named := NAME.fullmatch(each["Name"]):
                found.setdefault(named[1], {})[int(named[2])] = int(each["Size"])
        return found

    def _texts(self, alloc: str, stream: Stream, sizes: Mapping[int, int]) -> Iterator[str]:
        if not sizes:
            return
        key, oldest = (alloc, stream), min(sizes)
        number, at = self._places.get(key, (oldest, 0))
        if (key not in self._places and oldest > 0) or number < oldest:
            number, at = oldest, 0
            self._places[key] = (number, at)
            yield DROPPED
        decoder = self._decoders.setdefault(key, codecs.getincrementaldecoder("utf-8")("replace"))
        for file in sorted(each for each in sizes if each >= number):
            at = at if file == number else 0
            while at < sizes[file]:
                piece = self._piece(alloc, f"{FOLDER}/{TASK}.{stream}.{file}", at)
                if not piece:
                    return
                at += len(piece)
                self._places[key] = (file, at)
                if text := decoder.decode(piece):
                    yield text

    def _piece(self, alloc: str, path: str, at: int) -> bytes:
        """Bytes of a file; empty when it was dropped meanwhile, or its node is gone."""
        try:
            return self._api.text(f"/client/fs/readat/{alloc}", path=path, offset=str(at), limit=str(PIECE))
        except (NotFoundError, ResourceError):
            return b""
