"""Segments: anonymous shared memory that lives as long as somebody has it open or mapped, and has no name to leak."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import tempfile

from twister2.spec.errors import NetworkError

from .limits import exhausted, no_descriptors

PAGE = mmap.PAGESIZE
_HUGE = 4 << 20
_UNIT = 1 << 20
"""Memory is got from the system in pieces of this size."""


class Segment:
    """Shared memory of this process. :attr:`map` is the mapping, :attr:`fd` what others need to map it too.

    :ivar folder: of its file; empty for anonymous memory.
    :param size: bytes; :param backed: get all memory at once; else by :meth:`back`.
    :param folder: where the file lies, nameless, on systems without memfd.
    :raises NetworkError: too little memory.
    """

    def __init__(self, size: int, folder: str, *, backed: bool = True) -> None:
        self.size = -(-size // PAGE) * PAGE
        self.fd, self.folder = _create(folder)
        self._backed = bytearray(-(-self.size // _UNIT))
        try:
            os.ftruncate(self.fd, self.size)
            if hasattr(fcntl, "F_ADD_SEALS"):
                with contextlib.suppress(OSError):  # a file instead of a memfd
                    # a mapping of it can never end beyond the file, which would be SIGBUS
                    fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
            if backed:
                self.back(0, self.size)
            self.map = map_shared(self.fd, self.size)
        except OSError as error:
            os.close(self.fd)
            raise out_of_memory(size, error, self.folder) from error
        except BaseException:
            os.close(self.fd)
            raise

    def back(self, offset: int, n_bytes: int) -> None:
        """Get the memory of a part, so that lack of it is an error here, not a signal when it is touched.

        :raises NetworkError: too little memory.
        """
        first, end = offset // _UNIT, -(-(offset + n_bytes) // _UNIT)
        while (first := self._backed.find(0, first, end)) >= 0:
            last = first
            while last < end and not self._backed[last]:
                last += 1
            start = first * _UNIT
            try:
                os.posix_fallocate(self.fd, start, min(last * _UNIT, self.size) - start)
            except OSError as error:
                raise out_of_memory(n_bytes, error, self.folder) from error
            self._backed[first:last] = b"\1" * (last - first)

    def close_descriptor(self) -> None:
        """Nobody else is to map it; the mapping is left to its user. Idempotent."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def close(self) -> None:
        """Forget it; the memory is given back when the last view and the last peer let it go. Idempotent."""
        if self.fd >= 0:
            self.close_descriptor()
            with contextlib.suppress(BufferError):  # views of it live on
                self.map.close()


def attach(fd: int, size: int) -> mmap.mmap:
    """Map a segment of another process; takes the descriptor over.

    :raises OSError: it is smaller than said, or cannot be mapped.
    """
    try:
        if os.fstat(fd).st_size < size:
            raise OSError(errno.EINVAL, "the segment is smaller than its owner says")
        return map_shared(fd, size)
    finally:
        os.close(fd)


def map_shared(fd: int, size: int) -> mmap.mmap:
    """Map a segment, with huge pages where the system gives them to shared memory.

    :raises OSError: too little address space.
    """
    made = mmap.mmap(fd, size)
    if size >= _HUGE and hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):
            made.madvise(mmap.MADV_HUGEPAGE)
    return made


def out_of_memory(size: int, error: OSError, folder: str = "") -> NetworkError:
    """The error of a segment that could not be made.

    :param folder: where its file lies, if it has one.
    """
    if exhausted(error):
        return no_descriptors("shared memory", str(error))
    if folder:
        return NetworkError(
            f"no {size} bytes of shared memory are to be had in {folder}",
            why=f"{error.strerror or error}; there is no anonymous memory (memfd) here, so that files of this folder "
            "are shared",
            remedy='make room there, or lower comm.shm.pool_bytes, or use comm = ["tcp"]',
            where=folder,
            details={"errno": error.errno or 0},
        )
    return NetworkError(
        f"no {size} bytes of shared memory are to be had",
        why=str(error),
        remedy='give the worker more memory, or lower comm.shm.pool_bytes, or use comm = ["tcp"]',
        details={"errno": error.errno or 0},
    )


def _create(folder: str) -> tuple[int, str]:
    """A descriptor, and the folder of its file: empty for anonymous memory."""
    if hasattr(os, "memfd_create"):
        with contextlib.suppress(OSError):  # forbidden in some sandboxes
            return os.memfd_create("twister2", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), ""
    try:
        fd, path = tempfile.mkstemp(prefix="m", dir=folder)
    except OSError as error:
        raise out_of_memory(0, error, folder) from error
    os.unlink(path)
    return fd, folder
