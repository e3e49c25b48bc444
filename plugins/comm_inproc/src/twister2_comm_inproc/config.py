"""Options of ``[comm.inproc]``."""

from __future__ import annotations

import attrs

from twister2.spec.options import option


@attrs.frozen(kw_only=True)
class InprocConfig:
    """Options of ``[comm.inproc]``. The bounds hold for each ordered pair of workers."""

    queue_messages: int = option(
        256,
        "Messages that may wait for one reader before its writer is refused.",
        unit="1",
        validator=attrs.validators.ge(1),
    )
    queue_bytes: int = option(
        16 << 20,
        "Bytes that may wait for one reader before its writer is refused; one message may exceed it.",
        unit="bytes",
        validator=attrs.validators.ge(1),
    )
