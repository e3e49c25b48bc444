"""Packed files: gzip, bzip2, xz and zstd. What is read is unpacked in bounded steps; damage is told with its place."""

from __future__ import annotations

import bz2
import io
import lzma
import re
import zlib
from typing import IO, TYPE_CHECKING, Any, Protocol, cast

from twister2.spec.errors import DataFormatError
from twister2_data_file.problems import not_the_format
from twister2_data_file.stores import store_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from twister2.spec.batch import Batch

STEP = 1 << 16
"""Bytes of packed input that are unpacked at a time."""
XZ_MEMORY = 256 << 20
"""Most memory that unpacking xz may take; the largest preset of its tool takes 65 MiB."""

XZ_PRESET = 3
"""Packing takes 32 MiB for each file that is open then; with the tool's own preset it is 94."""

SUFFIXES = {"gzip": ".gz", "bz2": ".bz2", "xz": ".xz", "zstd": ".zst"}
"""Packings by their names in options, and how files that are written with them end."""

_READ_SUFFIXES = {".gz": "gzip", ".gzip": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd", ".zstd": "zstd"}
_TESTED_BY = {"gzip": "gzip -t", "bz2": "bzip2 -t", "xz": "xz -t", "zstd": "zstd -t"}


def packing_of(path: str) -> str | None:
    """The packing that a file is taken for, by its name; None for none."""
    scheme, separator, _ = path.partition("://")
    name = re.split(r"[?#]", path)[0] if separator and scheme in ("http", "https") else path
    return next((packing for suffix, packing in _READ_SUFFIXES.items() if name.endswith(suffix)), None)


def open_bytes(path: str, *, forward: bool = False) -> IO[bytes]:
    """Open a file for reading, unpacked when it is packed; seekable, backwards at the price of beginning again.

    :param forward: it is going to be read from its beginning to its end.
    """
    store, _ = store_of(path)
    packing = packing_of(path)
    file = store.open(path, forward=forward or packing is not None)
    return file if packing is None else cast("IO[bytes]", Unpacked(file, packing, path))


def is_broken_archive(error: Exception) -> bool:
    """Whether an error says that a packed file is damaged or cut off."""
    return isinstance(error, DataFormatError) and "packing" in error.details


class _Damaged(Exception):
    """What an archive holds cannot be unpacked.

    :ivar cut_off: because it ends too early.
    """

    def __init__(self, reason: str, *, cut_off: bool = False) -> None:
        super().__init__(reason)
        self.cut_off = cut_off


class _Counted:
    """The packed file. :ivar n_read: bytes read of it so far."""

    def __init__(self, raw: IO[bytes]) -> None:
        self.raw = raw
        self.n_read = 0
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        data = self.raw.read(min(size, STEP) if size >= 0 else STEP)
        self.n_read += len(data)
        return data

    def close(self) -> None:
        """Nothing: whoever opened the file closes it."""


class _Engine(Protocol):
    def read(self, size: int) -> bytes:
        """At most ``size`` unpacked bytes; none at the end.

        :raises _Damaged: the archive is.
        """


class Unpacked(io.RawIOBase):
    """The content of a packed file as a file. Members one after another are one content.

    Never holds more than a step of it, whatever it unpacks to.

    :raises DataFormatError: of ``read``: the file is cut off or damaged; names the place.
    """

    def __init__(self, raw: IO[bytes], packing: str, path: str) -> None:
        super().__init__()
        self._raw = raw
        self._packing = packing
        self._path = path
        self._begin()

    def _begin(self) -> None:
        self._counted = _Counted(self._raw)
        self._engine = _engine(self._counted, self._packing)
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is, slowly."""
        return True

    def tell(self) -> int:
        """Offset in the content."""
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """At most ``size`` bytes, less in the middle too; empty at the end. Without a size everything."""
        if size is None or size < 0:
            return b"".join(iter(lambda: self.read(STEP), b""))
        try:
            data = self._engine.read(size)
        except _Damaged as error:
            raise self._broken(error) from error
        self._at += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        """As :meth:`read`."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to an offset in the content, by unpacking up to it."""
        if whence != io.SEEK_SET:
            raise io.UnsupportedOperation("the length of what a packed file holds is not known")
        if offset < self._at:
            self._raw.seek(0)
            self._begin()
        while self._at < offset and self.read(min(STEP, offset - self._at)):
            pass
        return self._at

    def close(self) -> None:
        """Close the packed file too."""
        try:
            super().close()
        finally:
            self._raw.close()

    def _broken(self, error: _Damaged) -> DataFormatError:
        offset = self._counted.n_read
        what = f"the {self._packing} archive " + (
            f"is cut off at byte {offset}" if error.cut_off else f"is damaged, or none, at or before byte {offset}"
        )
        test = _TESTED_BY[self._packing]
        made = not_the_format(
            self._path,
            what,
            f"{error}; {self._at} bytes of its content could be read",
            f"get the file again, or leave it out; `{test}` tests an archive",
            f"{self._path}, byte {offset}",
        )
        made.details.update(packing=self._packing, offset=offset, unpacked=self._at)
        return made


class _Members:
    """Unpacks members with a decompressor each; what follows the last one must be a member, or padding."""

    def __init__(self, source: _Counted, make: Callable[[], Any], *, padded: bool) -> None:
        self._source = source
        self._make = make
        self._padded = padded
        self._member: Any = None
        self._packed = b""
        self._n_members = 0

    def read(self, size: int) -> bytes:
        while size:
            if self._member is None and not self._next_member():
                break
            member = self._member
            data, ended = b"", False
            if member.needs_input:
                data = self._packed or self._source.read(STEP)
                ended = not data
            try:
                made: bytes = member.decompress(data, size)
            except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as error:
                raise _Damaged(str(error)) from error
            self._packed = member.unused_data
            if member.eof:
                self._member = None
            if made:
                return made
            if ended and not member.eof:
                raise _Damaged("its end is missing", cut_off=True)
        return b""

    def _next_member(self) -> bool:
        packed = self._packed or self._source.read(STEP)
        while self._padded and self._n_members and packed and not (packed := packed.lstrip(b"\0")):
            packed = self._source.read(STEP)
        self._packed = packed
        if packed:
            self._member = self._make()
            self._n_members += 1
        return bool(packed)


class _GzipMember:
    """One member of gzip, with what the decompressors of bz2 and lzma offer."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self.needs_input = True

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(data, max_length)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        """What was not looked at yet: the rest of the input, or what follows this member."""
        return self._inner.unused_data if self._inner.eof else self._inner.unconsumed_tail


class _Zstd:
    """Unpacks by pyarrow, which has zstd with it."""

    def __init__(self, source: _Counted) -> None:
        import pyarrow

        self._stream = pyarrow.CompressedInputStream(pyarrow.PythonFile(source, "r"), "zstd")

    def read(self, size: int) -> bytes:
        try:
            return bytes(self._stream.read(min(size, STEP)))
        except OSError as error:
            if error.errno is not None:
                raise  # of the file itself
            raise _Damaged(str(error), cut_off="runcated" in str(error)) from error


def _engine(source: _Counted, packing: str) -> _Engine:
    if packing == "zstd":
        return _Zstd(source)
    if packing == "gzip":
        return _Members(source, _GzipMember, padded=True)
    if packing == "xz":
        return _Members(source, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, XZ_MEMORY), padded=True)
    return _Members(source, bz2.BZ2Decompressor, padded=False)


class Packer:
    """Packs what is written to it into a file. Equal content makes equal bytes, whenever it is written."""

    def __init__(self, file: IO[bytes], packing: str) -> None:
        self._file = file
        self._stream: Any = None
        self._packer: Any = None
        self._open = True
        if packing == "zstd":
            import pyarrow

            self._stream = pyarrow.CompressedOutputStream(pyarrow.PythonFile(_Sink(self), "w"), "zstd")
        elif packing == "gzip":
            self._packer = zlib.compressobj(6, zlib.DEFLATED, zlib.MAX_WBITS | 16)
        else:
            self._packer = bz2.BZ2Compressor() if packing == "bz2" else lzma.LZMACompressor(preset=XZ_PRESET)

    def write(self, data: Batch) -> int:
        """Append bytes."""
        view = memoryview(data)
        if self._stream is not None:
            self._stream.write(data)
        else:
            self.put(self._packer.compress(view))
        return view.nbytes

    def finish(self) -> None:
        """Append what ends the archive; the file stays open."""
        if self._stream is not None:
            self._stream.close()
        else:
            self.put(self._packer.flush())
        self._open = False

    def discard(self) -> None:
        """From now on nothing reaches the file."""
        self._open = False

    def put(self, packed: bytes) -> None:
        """Write packed bytes to the file."""
        if packed and self._open:
            self._file.write(packed)


class _Sink:
    """The file as pyarrow wants it; closing its stream must not close the file, which is to be synced first."""

    closed = False

    def __init__(self, packer: Packer) -> None:
        self._packer = packer

    def write(self, data: bytes) -> int:
        self._packer.put(bytes(data))
        return len(data)

    def flush(self) -> None:
        """The file is flushed when it is synced."""

    def close(self) -> None:
        """The file is closed by who opened it."""
