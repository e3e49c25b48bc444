"""What copies and Slurm wrote into the job's folder."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Literal

from twister2.spec.rm import LogChunk

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Iterator

    from twister2_rm_slurm.files import Files

Stream = Literal["stdout", "stderr", "manager"]
NO_SLOT = -1
PIECE = 1 << 16


class LogReader:
    """Reads on in all files of a job; files may appear late.

    :param n_slots: tells how many slots the job has had so far.
    :param slot: only this slot's, None for all and the manager's own.
    """

    def __init__(self, files: Files, n_slots: Callable[[], int], slot: int | None) -> None:
        self._files, self._n_slots = files, n_slots
        self._all = slot is None
        self._sources: dict[pathlib.Path, tuple[int, Stream]] = {}
        if slot is None:
            self._sources[files.log] = (NO_SLOT, "manager")
            self._sources[files.master_log] = (NO_SLOT, "manager")
        else:
            self._add(slot)
        self._offsets: dict[pathlib.Path, int] = {}
        self._decoders: dict[pathlib.Path, codecs.IncrementalDecoder] = {}

    def _add(self, slot: int) -> None:
        streams: tuple[Stream, Stream] = ("stdout", "stderr")
        for stream in streams:
            self._sources.setdefault(self._files.slot_log(slot, stream), (slot, stream))

    def read(self) -> Iterator[LogChunk]:
        """What was written since the last call."""
        if self._all:
            for slot in range(self._n_slots()):
                self._add(slot)
            for path in (*self._files.step_logs(), *self._files.more_logs()):
                self._sources.setdefault(path, (NO_SLOT, "manager"))
        for path, (slot, stream) in self._sources.items():
            for text in self._text(path):
                yield LogChunk(slot, stream, text)

    def _text(self, path: pathlib.Path) -> Iterator[str]:
        try:
            with open(path, "rb") as file:
                file.seek(self._offsets.get(path, 0))
                while data := file.read(PIECE):
                    self._offsets[path] = file.tell()
                    decoder = self._decoders.setdefault(path, codecs.getincrementaldecoder("utf-8")("replace"))
                    if text := decoder.decode(data):
                        yield text
        except OSError:
            return
