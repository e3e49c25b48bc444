"""Spilling: values written to nameless files on one or several disks, and read again as often as wanted.

A value is encoded as for the network, so that arrays are written as their memory and registered types by their own
serialiser. Values of all holders lie one after the other in *segments*, one open segment per disk, disks taken in turn.
A segment has no name in its folder: it goes when the last value in it is forgotten, and when the process ends, even by
``kill -9``. Which values lie where is known in memory only.

Writing is left to the kernel's page cache, which writes behind; a thread of our own would only add a copy.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import tempfile
import time
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

from twister2.spec.errors import SpillError
from twister2.spec.memory import Scratch, SpillCounters, SpillFile
from twister2.worker.compression import Compression, compression
from twister2.worker.network.codec import decode, encode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

OPTION = "job.spill_dirs"
SEGMENT_BYTES = 64 << 20
"""A segment is followed by another once it is so long; the more there are, the longer they get."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PREFIX = "t2-spill-"
_STALE_S = 60.0


class _Segment:
    """One nameless file. Closed, and so removed, with its last reference."""

    __slots__ = ("descriptor", "end", "folder")

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.end = 0
        self.descriptor = -1
        self.descriptor = _nameless(folder)

    def write(self, parts: Sequence[Any]) -> int:
        """Write buffers one after the other; where the first one begins. What does not fit leaves no trace.

        :raises OSError: it does not fit, or the disk failed.
        """
        start = at = self.end
        try:
            for part in parts:
                view = memoryview(part).cast("B") if len(part) else memoryview(b"")
                done = 0
                while done < len(view):
                    done += os.pwrite(self.descriptor, view[done:], at + done)
                at += done
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self.descriptor, start)
            raise
        self.end = at
        return start

    def read(self, size: int, start: int) -> bytearray:
        """:raises OSError: the disk failed. :raises EOFError: the file is shorter."""
        data = bytearray(size)
        view = memoryview(data)
        done = 0
        while done < size:
            count = os.preadv(self.descriptor, [view[done:]], start + done)
            if not count:
                raise EOFError(f"the file ends at byte {start + done} of {start + size}")
            done += count
        return data

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


def _nameless(folder: pathlib.Path) -> int:
    """A file without a name in ``folder``, open for reading and writing."""
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
    # A file system without O_TMPFILE (NFS): a name for a moment. Files whose makers died in that moment are removed.
    for left in folder.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            facts = left.lstat()
            if facts.st_uid == os.getuid() and facts.st_size == 0 and facts.st_mtime < time.time() - _STALE_S:
                left.unlink()
    descriptor, name = tempfile.mkstemp(prefix=_PREFIX, dir=folder)
    os.unlink(name)
    return descriptor


class _Extent(NamedTuple):
    """Where one value lies, and how it is read."""

    segment: _Segment
    start: int
    sizes: tuple[int, ...]
    encoding: int
    head: bytes
    packed: tuple[int, ...]
    checksum: int


class Spill:
    """The spill service of one worker.

    :param folders: where to write, used in turn; a folder of our own (the worker's volatile folder) is made when it is
        first needed, folders that were ``configured`` must exist.
    :param method: name of the compression, see :mod:`twister2.worker.compression`.
    :raises SpillError: a configured folder does not exist or cannot be written to; an unknown compression.
    """

    def __init__(self, folders: Sequence[str | os.PathLike[str]], method: str = "none", *, configured: bool) -> None:
        self._folders = [pathlib.Path(folder) for folder in folders]
        self._configured = configured
        self._open: dict[pathlib.Path, _Segment] = {}
        self._turn = 0
        self._compression: Compression = compression(method)
        self.written = 0
        """Bytes on disk, all told."""
        self.files = 0
        """Segments opened."""
        if configured:
            for folder in self._folders:
                _check(folder)

    def scratch(self, name: str, budget: int) -> Scratch:
        """Disk space for one holder. :param budget: bytes of memory the worker may use, 0 for any."""
        return _Scratch(self, name, budget)

    def write(self, name: str, parts: Sequence[Any], size: int) -> tuple[_Segment, int]:
        """Write buffers to the next disk that has room; where they lie.

        :raises SpillError: no disk has.
        """
        full: list[tuple[pathlib.Path, OSError]] = []
        for offset in range(len(self._folders)):
            folder = self._folders[(self._turn + offset) % len(self._folders)]
            # A full disk may hold a segment that nobody reads any more: a new one lets go of it.
            for fresh in (False, True):
                try:
                    segment = self._segment(folder, fresh)
                    start = segment.write(parts)
                except OSError as error:
                    if error.errno not in _FULL:
                        raise self._failed(name, folder, size, error) from error
                    if fresh:
                        full.append((folder, error))
                    continue
                self._turn += offset + 1
                self.written += size
                return segment, start
        raise self._no_room(name, size, full)

    def _segment(self, folder: pathlib.Path, fresh: bool) -> _Segment:
        segment = self._open.get(folder)
        if segment is not None and not fresh and segment.end < max(SEGMENT_BYTES, self.written // 64):
            return segment
        segment = None
        self._open.pop(folder, None)
        if not self._configured:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._open[folder] = segment = _Segment(folder)
        self.files += 1
        return segment

    def pack(self, part: Any) -> tuple[Any, int]:
        """A buffer compressed where that makes it smaller, and its size before; the size is -1 when it is not."""
        packed = self._compression.pack(part)
        return (part, -1) if packed is None else (packed, len(part))

    def unpack(self, data: Any, size: int) -> Any:
        """A buffer of ``size`` bytes as it was."""
        return self._compression.unpack(data, size)

    def _failed(self, name: str, folder: pathlib.Path, size: int, error: OSError) -> SpillError:
        return SpillError(
            f"cannot spill {size} bytes of '{name}' to {folder}",
            why=error.strerror or str(error),
            remedy=f"mend the disk, or name other folders with the option {OPTION}",
            where=name,
            details={"folder": str(folder), "bytes": size, "option": OPTION},
        )

    def _no_room(self, name: str, size: int, full: list[tuple[pathlib.Path, OSError]]) -> SpillError:
        folders = [str(folder) for folder, _ in full]
        limited = any(error.errno == errno.EFBIG for _, error in full)
        limit = "raise the limit on the size of files (ulimit -f), " if limited else ""
        return SpillError(
            f"no disk has room to spill {size} bytes of '{name}': {', '.join(folders)}",
            why="; ".join(f"{folder}: {error.strerror}, {_free(folder)} bytes free" for folder, error in full)
            + f"; {self.written} bytes were spilled before",
            remedy=f"{limit}free space there, name further folders with the option {OPTION}, or give workers more "
            "memory (job.memory_mb)",
            where=name,
            details={"folders": folders, "bytes": size, "option": OPTION},
        )


def spill_for(job: Mapping[str, Any], volatile: str) -> Spill:
    """The service as the options of ``[job]`` say; ``~`` and variables such as ``$TMPDIR`` stand for what they are on
    this node. Without folders it is the worker's ``volatile`` one.

    :raises SpillError: as :class:`Spill`.
    """
    named = [os.path.expandvars(os.path.expanduser(folder)) for folder in job.get("spill_dirs") or ()]
    return Spill(named or [volatile], job.get("spill_compression", "auto"), configured=bool(named))


def _free(folder: pathlib.Path) -> int:
    try:
        facts = os.statvfs(folder)
    except OSError:
        return 0
    return facts.f_bavail * facts.f_frsize


def _check(folder: pathlib.Path) -> None:
    why = ""
    if not folder.is_absolute():
        why = "it is a relative path: workers run in folders of their own"
    elif not folder.is_dir():
        why = "it does not exist" if not folder.exists() else "it is no folder"
    elif not os.access(folder, os.W_OK | os.X_OK):
        why = "this user may not write there"
    if why:
        raise SpillError(
            f"data cannot be spilled to {folder} on {os.uname().nodename}",
            why=why,
            remedy=f"make it on every node, or name another folder with the option {OPTION}",
            where=str(folder),
            details={"folder": str(folder), "option": OPTION},
        )


class _Scratch(Scratch):
    def __init__(self, spill: Spill, name: str, budget: int) -> None:
        self.spill = spill
        self.name = name
        self.counters = SpillCounters()
        self.block_bytes = min(1 << 20, max(1 << 12, budget // 256)) if budget else 1 << 20

    def file(self) -> SpillFile:
        return _File(self)


class _File(SpillFile):
    __slots__ = ("_extents", "_scratch", "_size")

    def __init__(self, scratch: _Scratch) -> None:
        self._scratch = scratch
        self._extents: list[_Extent] | None = []
        self._size = 0

    def append(self, value: Any) -> None:
        extents = self._opened()
        spill = self._scratch.spill
        encoding, head, buffers, raw = encode(value)
        packed = [spill.pack(part) for part in buffers]
        parts = [part for part, _ in packed]
        sizes = tuple(memoryview(part).nbytes for part in parts)
        size = sum(sizes)
        checksum = 0
        for part in parts:
            checksum = zlib.crc32(part, checksum)
        segment, start = spill.write(self._scratch.name, parts, size)
        extents.append(_Extent(segment, start, sizes, encoding, head, tuple(was for _, was in packed), checksum))
        self._size += size
        counters = self._scratch.counters
        counters.values += 1
        counters.bytes += size
        counters.raw_bytes += raw

    def __len__(self) -> int:
        return len(self._extents or ())

    def __iter__(self) -> Iterator[Any]:
        return (self._read(self._opened()[index]) for index in range(len(self._opened())))

    def _read(self, extent: _Extent) -> Any:
        try:
            data = memoryview(extent.segment.read(sum(extent.sizes), extent.start)).toreadonly()
        except (OSError, EOFError) as error:
            raise self._unreadable(extent, str(error)) from error
        if zlib.crc32(data) != extent.checksum:
            raise self._unreadable(extent, "its checksum is wrong: the disk gave back something else than was written")
        buffers = []
        at = 0
        for size, was in zip(extent.sizes, extent.packed, strict=True):
            part: Any = data[at : at + size]
            buffers.append(part if was < 0 else memoryview(self._scratch.spill.unpack(part, was)).toreadonly())
            at += size
        return decode(extent.encoding, extent.head, buffers)

    def _unreadable(self, extent: _Extent, why: str) -> SpillError:
        name, folder = self._scratch.name, extent.segment.folder
        return SpillError(
            f"{sum(extent.sizes)} spilled bytes of '{name}' cannot be read again from {folder}",
            why=why,
            remedy=f"check that disk, or name another folder with the option {OPTION}",
            where=name,
            details={"folder": str(folder), "bytes": sum(extent.sizes), "option": OPTION},
        )

    @property
    def size(self) -> int:
        return self._size

    def close(self) -> None:
        if self._extents is not None:
            self._extents.clear()  # also for those who hold the list, such as the frames of an exception
            self._extents = None

    def _opened(self) -> list[_Extent]:
        if self._extents is None:
            raise SpillError(
                f"spilled data of '{self._scratch.name}' was used after it was given up",
                why="its operator was closed",
                remedy="use the values while the step runs, or copy them: list(values)",
                where=self._scratch.name,
            )
        return self._extents
