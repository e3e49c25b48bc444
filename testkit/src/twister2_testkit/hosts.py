"""Pretended hosts: network namespaces on a bridge, whose cables can be cut and can lose packets.

Needs the right to make network namespaces; :func:`why_not` says why it cannot be had. All is taken down again when the
context ends. Processes get into a host by ``setns`` (the manager ``hostile`` does, option ``rm.hostile.networks``).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import uuid
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

_DRAW = "5,32 0 0 4294963256,148 0 0 100,53 1 0 {percent},6 0 0 65538,6 0 0 65537"
"""Classic BPF: class 1:2 for a share of the packets drawn at random, class 1:1 for the others."""


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise OSError(f"{' '.join(words)}: {done.stderr.strip()}")


def why_not() -> str:
    """Why there can be no hosts here; empty when there can."""
    if shutil.which("ip") is None or shutil.which("tc") is None:
        return "the commands ip and tc (iproute2) are not installed"
    name = f"t2w{uuid.uuid4().hex[:6]}"
    try:
        _run("ip", "netns", "add", name)
    except OSError as error:
        return f"no network namespace can be made: {error}"
    try:
        _run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
    except OSError as error:
        return f"no virtual cable can be made: {error}"
    finally:
        with contextlib.suppress(OSError):
            _run("ip", "netns", "del", name)
    return ""


class Hosts:
    """``count`` hosts with an address each, on a bridge that this host is on as well. Use as a context.

    :ivar names: names of the namespaces. :ivar addresses: IPv4 addresses.
    """

    def __init__(self, count: int) -> None:
        self._mark = uuid.uuid4().hex[:6]
        self._bridge = f"t2b{self._mark}"
        self._net = f"10.{200 + int(self._mark[0], 16)}.{int(self._mark[1:3], 16)}"
        self.names = [f"t2n{self._mark}{number}" for number in range(count)]
        self.addresses = [f"{self._net}.{10 + number}" for number in range(count)]

    def __enter__(self) -> Hosts:
        try:
            _run("ip", "link", "add", self._bridge, "type", "bridge")
            _run("ip", "addr", "add", f"{self._net}.1/24", "dev", self._bridge)
            _run("ip", "link", "set", self._bridge, "up")
            for name, address in zip(self.names, self.addresses, strict=True):
                _run("ip", "netns", "add", name)
                _run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
                _run("ip", "link", "set", name, "master", self._bridge, "up")
                _run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
                _run("ip", "-n", name, "link", "set", "eth0", "up")
                _run("ip", "-n", name, "link", "set", "lo", "up")
        except BaseException:
            self._take_down()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._take_down()

    def cut(self, number: int) -> None:
        """Take the cable of a host out: nothing leaves it and nothing reaches it."""
        _run("ip", "link", "set", self.names[number], "nomaster")

    def heal(self, number: int) -> None:
        """Put it back in."""
        _run("ip", "link", "set", self.names[number], "master", self._bridge)

    def part(self, apart: bool = True) -> None:
        """The hosts no longer reach each other, but all still reach this one (and so a job master here)."""
        for name in self.names:
            _run("ip", "link", "set", name, "type", "bridge_slave", "isolated", "on" if apart else "off")

    def lose(self, percent: int) -> None:
        """Every cable loses so many of a hundred packets, drawn at random, in each direction; 0: no more."""
        for name in self.names:
            for where in ((), ("-n", name)):
                self._lose(where, "eth0" if where else name, percent)

    def _lose(self, where: tuple[str, ...], device: str, percent: int) -> None:
        with contextlib.suppress(OSError):
            _run("tc", *where, "qdisc", "del", "dev", device, "root")
        if not percent:
            return
        with contextlib.suppress(OSError):
            _run("tc", *where, "qdisc", "add", "dev", device, "root", "netem", "loss", f"{percent}%")
            return
        # a kernel without netem: what is drawn goes to a queue that holds nothing
        _run("tc", *where, "qdisc", "add", "dev", device, "root", "handle", "1:", "htb", "default", "1")
        for number in ("1:1", "1:2"):
            words = ("class", "add", "dev", device, "parent", "1:", "classid", number, "htb", "rate", "10gbit")
            _run("tc", *where, *words)
        _run("tc", *where, "qdisc", "add", "dev", device, "parent", "1:2", "bfifo", "limit", "1")
        program = _DRAW.format(percent=percent)
        words = ("filter", "add", "dev", device, "parent", "1:", "protocol", "all", "bpf", "bytecode", program)
        _run("tc", *where, *words)

    def dropped(self) -> int:
        """Packets that were lost on purpose."""
        count = 0
        for name in self.names:
            for where in ((), ("-n", name)):
                device = "eth0" if where else name
                words = ["tc", *where, "-s", "qdisc", "show", "dev", device]
                text = subprocess.run(words, capture_output=True, text=True, timeout=60).stdout
                kind = ""
                for line in text.splitlines():
                    kind = line.split()[1] if line.startswith("qdisc") else kind
                    if "(dropped " in line and kind in ("netem", "bfifo"):
                        count += int(line.split("(dropped ")[1].split(",")[0])
        return count

    def _take_down(self) -> None:
        for name in self.names:
            with contextlib.suppress(OSError):
                _run("ip", "link", "del", name)
            with contextlib.suppress(OSError):
                _run("ip", "netns", "del", name)
        with contextlib.suppress(OSError):
            _run("ip", "link", "del", self._bridge)

    def left(self) -> list[str]:
        """Namespaces and bridge that still exist."""
        namespaces = os.listdir("/run/netns") if os.path.isdir("/run/netns") else []
        links = os.listdir("/sys/class/net")
        return [name for name in (*namespaces, *links) if self._mark in name]
