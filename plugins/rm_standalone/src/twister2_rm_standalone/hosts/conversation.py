"""One ssh and the agent at its other end: requests and replies as lines of JSON."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from typing import TYPE_CHECKING, Any

from twister2_rm_standalone.hosts.bootstrap import MARK, first_line

if TYPE_CHECKING:
    from collections.abc import Mapping

MESSAGE_LIMIT = 64 << 20


class Conversation:
    """One ssh and the agent at its other end."""

    def __init__(self, host: str, command: list[str]) -> None:
        self.host = host
        self._owner = os.getpid()
        self.hello: dict[str, Any] | None = None
        self.used = False
        self.said = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the conversation
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.said, start_new_session=True
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.out, self.into = self.process.stdout.fileno(), self.process.stdin.fileno()
        for number in (self.out, self.into):
            os.set_blocking(number, False)
        self.outgoing = bytearray(first_line().encode())
        self._incoming = bytearray()
        self.noise = ""
        """What the host's shell wrote before the agent began."""

    def send(self, request: Mapping[str, Any]) -> None:
        self.outgoing += json.dumps(request).encode() + b"\n"

    def write(self) -> bool:
        """Write what goes; False when nobody reads it any more."""
        try:
            while self.outgoing:
                del self.outgoing[: os.write(self.into, self.outgoing[:65536])]
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True

    def read(self) -> tuple[list[dict[str, Any]], bool]:
        """The messages that have come, and whether more can come."""
        more = True
        try:
            while data := os.read(self.out, 1 << 16):
                self._incoming += data
                if len(self._incoming) > MESSAGE_LIMIT:
                    break
            more = False
        except BlockingIOError:
            pass
        except OSError:
            more = False
        *lines, rest = self._incoming.split(b"\n")
        self._incoming = bytearray(rest)
        messages = []
        for line in lines:
            if line.startswith(MARK.encode()):
                with contextlib.suppress(ValueError):
                    messages.append(json.loads(line[len(MARK) :]))
            elif self.hello is None:
                self.noise = (self.noise + line.decode("utf-8", "replace") + "\n")[-2000:]
        return messages, more

    def words(self) -> str:
        """What ssh wrote to its standard error, and the host's shell before the agent began."""
        self.said.seek(0)
        return self.said.read(8000).decode("utf-8", "replace") + self.noise

    def close(self, patience_s: float = 0.0) -> int | None:
        """End it; returns the exit code of ssh, None when it had to be killed. In a fork only the files are closed."""
        code = None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        if self._owner == os.getpid():
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self.process.wait(patience_s)
            if code is None:
                self.process.kill()
                self.process.wait()
        else:
            self.process.returncode = 0  # its parent reaps it
        self.process.stdout.close()
        self.said.close()
        return code

    def __del__(self) -> None:
        if hasattr(self, "into"):  # it began; whoever forgot to close it has nothing to wait for
            self.close()
