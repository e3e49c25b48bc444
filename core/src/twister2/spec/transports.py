"""What transports share: frames as flat views, names of sessions and sockets. Nothing here is contract."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import struct
from typing import TYPE_CHECKING, Final

from twister2.spec.errors import NetworkError

if TYPE_CHECKING:
    from twister2.spec.batch import Buffer
    from twister2.spec.comm import TransportContext

PADDING: Final = (b"", b"\0" * 7, b"\0" * 6, b"\0" * 5, b"\0" * 4, b"\0" * 3, b"\0" * 2, b"\0")
"""What follows a frame so that the next one begins at a multiple of eight, by the frame's size modulo eight."""
_EMPTY = memoryview(b"")
_MAX_PATH = 107  # sun_path of Linux, without the final zero
_CREDENTIALS = struct.Struct("3i")


def flat(frame: Buffer) -> memoryview:
    """``frame`` as a flat view of bytes, uncopied.

    :raises TypeError: not a contiguous buffer.
    """
    view = memoryview(frame)
    if view.nbytes == 0:
        return _EMPTY
    if not view.c_contiguous:
        raise TypeError("a frame must be a C-contiguous buffer")
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")


def session_id(*parts: object, size: int) -> bytes:
    """``size`` bytes that are equal only where all parts (job, session, attempt...) are."""
    return hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=size).digest()


def socket_path(context: TransportContext, letter: str, remedy: str = "give it mode 700 and this user") -> str:
    """Path of this worker's Unix socket; its name contains the session, so that finding it proves belonging to it.

    Empty when the path would be too long for a socket.

    :param letter: tells the transports' sockets apart. :param remedy: of the error.
    :raises NetworkError: the folder is open to others.
    """
    folder = os.stat(context.runtime_dir)
    if not stat.S_ISDIR(folder.st_mode) or folder.st_uid != os.geteuid() or folder.st_mode & 0o077:
        raise NetworkError(
            f"the job's folder for sockets, {context.runtime_dir}, is not private",
            why=f"its mode is {stat.S_IMODE(folder.st_mode):o} and its owner is user {folder.st_uid}",
            remedy=remedy,
        )
    path = os.path.join(context.runtime_dir, f"{letter}{context.attempt}-{context.rank}-{context.session[:16]}")
    return path if len(os.fsencode(path)) <= _MAX_PATH else ""


def same_user(connection: socket.socket) -> bool:
    """Whether the process at the other end of a Unix socket is this user's, as the kernel says."""
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(packed)[1]) == os.geteuid()
