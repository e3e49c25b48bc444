"""Facts of this host and interpreter, sent with a worker's hello."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import sys
from typing import Any

import twister2

SIOCGIFADDR = 0x8915
"""Request of Linux for an interface's IPv4 address (netdevice(7))."""


def worker_facts() -> dict[str, Any]:
    """Host, addresses, memory, interpreter and version, as plain data."""
    return {
        "node": node_facts(),
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
        "interpreter": sys.executable,
        "core": twister2.__version__,
        "memory_available_mb": available_memory_mb(),
        "cores": len(os.sched_getaffinity(0)),
    }


def node_facts() -> dict[str, Any]:
    """Facts for :class:`twister2.spec.environment.NodeFacts`, as plain data."""
    from twister2.control.channel import local_addresses

    return {
        "host": os.uname().nodename,
        "addresses": local_addresses(),
        "interfaces": interfaces(),
        "boot_id": _read("/proc/sys/kernel/random/boot_id"),
        "memory": _shared_memory(),
        "node": os.environ.get("SLURMD_NODENAME") or os.environ.get("TWISTER2_NODE", ""),
        "rack": os.environ.get("TWISTER2_RACK", ""),
        "datacenter": os.environ.get("TWISTER2_DATACENTER", ""),
    }


def _shared_memory() -> str:
    try:
        found = os.stat("/dev/shm")
    except OSError:
        return ""
    return f"{found.st_dev}:{found.st_ino}"


def interfaces() -> dict[str, str]:
    """IPv4 address by network interface; interfaces without one are left out."""
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):
                answer = fcntl.ioctl(probe, SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                found[name] = socket.inet_ntoa(answer[20:24])
    return found


def available_memory_mb() -> int:
    """Memory that can be had on this host without swapping, MiB."""
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) >> 10
    return 1024


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""
