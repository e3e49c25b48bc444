"""Which addresses a worker publishes, and which of a peer's addresses are worth dialling."""

from __future__ import annotations

import ipaddress
import os
from typing import TYPE_CHECKING, Any

from twister2.spec.errors import NetworkError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twister2.spec.comm import TransportContext

    from .config import TcpConfig

Target = str | tuple[str, int]
"""A Unix socket's path, or IP address and port."""

LOOPBACK = "127.0.0.1"


def endpoint(target: Target) -> str:
    """A target as zmq writes it."""
    if isinstance(target, str):
        return f"ipc://{target}"
    host, port = target
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def is_loopback(address: str) -> bool:
    """Whether an IP address never leaves the host."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def own_loopback(context: TransportContext) -> str:
    """What processes have in common whose loopback is one: kernel and network namespace. Empty: not known."""
    boot = context.node.boot_id
    try:
        return boot and f"{boot} {os.stat('/proc/self/ns/net').st_ino}"
    except OSError:
        return ""


def listen_addresses(config: TcpConfig, context: TransportContext, *, ipc: bool) -> list[str]:
    """IP addresses to publish; none when TCP is not needed because nobody else could dial them.

    :param ipc: whether workers of this host reach each other over Unix sockets.
    :raises NetworkError: the interface is not known, or not allowed.
    """
    node = context.node
    if config.interface:
        wanted = node.interfaces.get(config.interface, config.interface)
        if wanted not in node.addresses and wanted not in node.interfaces.values() and not is_loopback(wanted):
            known = ", ".join(f"{name} ({address})" for name, address in node.interfaces.items()) or "none"
            raise NetworkError(
                f"comm.tcp.interface = {config.interface!r} is no network interface of {node.host}",
                why=f"its interfaces are: {known}",
                remedy="name one of them or one of its addresses, or leave the option out",
            )
        found = [wanted]
    else:
        found = [address for address in node.addresses if not is_loopback(address)]
    if config.plain:
        if config.interface and not is_loopback(found[0]):
            raise NetworkError(
                f"comm.tcp.plain refuses the address {found[0]}",
                why="plain TCP is neither encrypted nor authenticated, so it is for loopback only",
                remedy="set comm.tcp.plain = false",
            )
        found = [LOOPBACK]
    elif not found and not ipc:
        found = [LOOPBACK]
    local_only = all(map(is_loopback, found))
    return [] if local_only and ipc else found


def targets(config: TcpConfig, context: TransportContext, peer: int, address: Mapping[str, Any]) -> list[Target]:
    """Where a peer may listen, best first: its Unix socket when this process can see it, else its TCP addresses, before
    them loopback where that is the peer's too: it stays when an interface goes.

    :raises NetworkError: plain TCP, and the peer is not on loopback.
    """
    found: list[Target] = []
    path, boot = str(address.get("ipc", "")), str(address.get("boot", ""))
    same_kernel = not boot or not context.node.boot_id or boot == context.node.boot_id
    if path and same_kernel and config.same_host == "ipc" and os.path.exists(path):
        found.append(path)
    if address.get("loopback") and address["loopback"] == own_loopback(context):
        found.append((LOOPBACK, int(address["port"])))
    for host in address.get("tcp", ()):
        if config.plain and not is_loopback(host):
            raise NetworkError(
                f"comm.tcp.plain refuses worker {peer} at {host}",
                why="plain TCP is neither encrypted nor authenticated, so it is for loopback only",
                remedy="set comm.tcp.plain = false",
            )
        found.append((str(host), int(address["port"])))
    return found
