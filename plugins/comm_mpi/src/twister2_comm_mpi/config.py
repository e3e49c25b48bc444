"""Options of ``[comm.mpi]``."""

from __future__ import annotations

from typing import Literal

import attrs

from twister2.spec.options import option

_at_least_1 = attrs.validators.ge(1)


@attrs.frozen(kw_only=True)
class MpiConfig:
    """Options of ``[comm.mpi]``. The window holds for each ordered pair of workers."""

    thread_level: Literal["funneled", "serialized", "multiple"] = option(
        "funneled",
        "Thread level asked of the MPI library; more than funneled only if the program uses env.mpi in threads.",
    )
    window_bytes: int = option(
        16 << 20,
        "Bytes that may be under way to one peer, unread, before its writer is refused; one message may exceed it.",
        unit="bytes",
        validator=_at_least_1,
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
        validator=_at_least_1,
    )
    chunk_bytes: int = option(
        1 << 30,
        "Largest single MPI message; longer frames are sent in several.",
        unit="bytes",
        validator=[_at_least_1, attrs.validators.le((1 << 31) - 1)],
    )
