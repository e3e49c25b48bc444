"""Options of ``[comm.tcp]``."""

from __future__ import annotations

from typing import Literal

import attrs

from twister2.spec.options import option


@attrs.frozen(kw_only=True)
class TcpConfig:
    """Options of ``[comm.tcp]``. The window holds for each ordered pair of workers."""

    same_host: Literal["ipc", "tcp"] = option(
        "ipc",
        "How workers of one host talk: over Unix sockets in the job's private folder, or over TCP as between hosts.",
    )
    plain: bool = option(
        False, "TCP without encryption and authentication, for benchmarks; every address but loopback is refused."
    )
    interface: str = option(
        "", "Network interface (eth0) or address to listen on and to publish; all addresses of the node when empty."
    )
    port: int = option(
        0,
        "First TCP port: worker i listens on port + i; the system chooses when 0.",
        unit="1",
        validator=[attrs.validators.ge(0), attrs.validators.le(65535)],
    )
    window_bytes: int = option(
        16 << 20,
        "Bytes that may be under way to one peer, unread, before its writer is refused; two messages may exceed it.",
        unit="bytes",
        validator=attrs.validators.ge(1),
    )
    window_messages: int = option(
        4096,
        "Messages that may be under way to one peer, unread, before its writer is refused.",
        unit="1",
        validator=attrs.validators.ge(4),
    )
    zero_copy_bytes: int = option(
        64 << 10,
        "Frames of this size and more are sent from the caller's memory; smaller ones are copied.",
        unit="bytes",
        validator=attrs.validators.ge(1),
    )
    unreachable_s: float = option(
        15.0,
        "How long the address of a silent peer may accept no connection, by no answer or by a refusal, before the peer "
        "counts as out of reach.",
        unit="s",
        validator=attrs.validators.gt(0),
    )
