"""Options of ``[comm.shm]``."""

from __future__ import annotations

import attrs

from twister2.spec.options import option


@attrs.frozen(kw_only=True)
class ShmConfig:
    """Options of ``[comm.shm]``."""

    ring_bytes: int = option(
        256 << 10,
        "Size of the ring for small messages of one ordered pair of workers; it is made when the first is sent.",
        unit="bytes",
        validator=attrs.validators.ge(16 << 10),
    )
    inline_bytes: int = option(
        16 << 10,
        "Frames below this size lie in the ring and are copied out of it; larger ones lie in blocks, which the reader"
        " maps.",
        unit="bytes",
        validator=attrs.validators.ge(1),
    )
    pool_bytes: int = option(
        128 << 20,
        "Blocks that a worker uses again and again for large frames; shared out among its peers. What a peer holds"
        " beyond half of its share is copied out on arrival; a single larger message gets memory of its own. At most a"
        " sixteenth of the worker's memory limit.",
        unit="bytes",
        validator=attrs.validators.ge(1 << 20),
    )
    stage_bytes: int = option(
        4 << 20,
        "Memory of one member of a group through which its large collective operations pass; beside it half as much, at"
        " most 2 MiB, for those of middling size.",
        unit="bytes",
        validator=attrs.validators.ge(512 << 10),
    )
