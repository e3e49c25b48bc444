"""Compression of spilled data, chosen by option: fast or none."""

from __future__ import annotations

import importlib
import zlib
from abc import ABC, abstractmethod
from typing import Any

from twister2.spec.errors import SpillError

OPTION = "job.spill_compression"
_SMALL = 1024


class Compression(ABC):
    """One method."""

    def pack(self, data: Any) -> bytes | None:
        """The data in fewer bytes, or None when it is too small or does not get smaller."""
        size = memoryview(data).nbytes
        if size < _SMALL:
            return None
        packed = self._pack(data)
        return packed if len(packed) < size - size // 8 else None

    @abstractmethod
    def _pack(self, data: Any) -> bytes:
        """The data compressed."""

    @abstractmethod
    def unpack(self, data: Any, size: int) -> bytes:
        """The ``size`` bytes that were packed."""


class NoCompression(Compression):
    """Data as it is."""

    def pack(self, data: Any) -> bytes | None:
        return None

    def _pack(self, data: Any) -> bytes:
        return bytes(data)

    def unpack(self, data: Any, size: int) -> bytes:
        return bytes(data)


class Zlib(Compression):
    """Level 1: about 100 MB/s and core, in every Python."""

    def _pack(self, data: Any) -> bytes:
        return zlib.compress(data, 1)

    def unpack(self, data: Any, size: int) -> bytes:
        return zlib.decompress(data, bufsize=size)


class Lz4(Compression):
    """Several hundred MB/s and core; needs the distribution ``lz4``."""

    def __init__(self) -> None:
        self._block: Any = importlib.import_module("lz4.block")

    def _pack(self, data: Any) -> bytes:
        packed: bytes = self._block.compress(data, store_size=False)
        return packed

    def unpack(self, data: Any, size: int) -> bytes:
        found: bytes = self._block.decompress(data, uncompressed_size=size)
        return found


def compression(method: str) -> Compression:
    """The method of that name: ``none``, ``zlib``, ``lz4``, or ``auto`` (lz4 where it is installed, else none).

    :raises SpillError: there is no such method, or lz4 is not installed.
    """
    if method == "none":
        return NoCompression()
    if method == "zlib":
        return Zlib()
    if method not in ("auto", "lz4"):
        raise SpillError(
            f"there is no compression '{method}'",
            why="known are none, zlib, lz4 and auto",
            remedy=f"give the option {OPTION} one of these",
        )
    try:
        return Lz4()
    except ImportError as error:
        if method == "auto":
            return NoCompression()
        raise SpillError(
            "the compression lz4 is not installed here",
            why=str(error),
            remedy=f"pip install lz4, or set the option {OPTION} to auto, zlib or none",
        ) from error
