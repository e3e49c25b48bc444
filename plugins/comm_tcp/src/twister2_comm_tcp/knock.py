"""Whether something listens at an address: a bare connection attempt that never blocks."""

from __future__ import annotations

import errno
import select
import socket

from twister2.spec.transports import same_user

_UNDER_WAY = (errno.EINPROGRESS, errno.EALREADY)
_FULL = errno.EAGAIN  # a Unix socket whose queue of newcomers is full: somebody listens, ask again


class Knock:
    """One connection attempt, to a path (Unix socket) or to ``(address, port)``. Close it when its answer is known."""

    def __init__(self, target: str | tuple[str, int]) -> None:
        self.target = target
        self._unix = isinstance(target, str)
        family = socket.AF_UNIX if self._unix else socket.AF_INET6 if ":" in target[0] else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._error = self._socket.connect_ex(target)

    @property
    def refused(self) -> bool:
        """Whether it is certain that nobody listens there."""
        return self._error in (errno.ECONNREFUSED, errno.ENOENT)

    def poll(self) -> bool | None:
        """Whether something listens there; None while it is not known."""
        if self._error == _FULL:
            self._error = self._socket.connect_ex(self.target)
            if self._error == _FULL:
                return None
        if self._error in _UNDER_WAY:
            poller = select.poll()  # select() takes no descriptors from 1024 on
            poller.register(self._socket, select.POLLOUT)
            if not poller.poll(0):
                return None
            self._error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        return self._error in (0, errno.EISCONN)

    def same_user(self) -> bool:
        """Whether the listener at a Unix socket is a process of this user, as the kernel says."""
        return same_user(self._socket)

    def take(self) -> socket.socket:
        """The connection, for the caller to close."""
        return self._socket

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    def close(self) -> None:
        """Take the attempt back."""
        self._socket.close()
