"""Options of the operators."""

from __future__ import annotations

import attrs
from attrs.validators import ge

from twister2.spec.options import option
from twister2.spec.values import Value


@attrs.frozen(kw_only=True, eq=False, repr=False)
class NetConfig(Value):
    """Options of ``[ops.net]``."""

    batch_records: int = option(
        16384, "Records an operator collects for one target before it sends them on.", unit="1", validator=ge(1)
    )
    combine_keys: int = option(
        1_000_000,
        "Keys a keyed operator combines on the sending worker before it sends them on.",
        unit="1",
        validator=ge(1),
    )
    sample_per_target: int = option(
        200, "Records sampled per target and worker to choose the bounds of ranges.", unit="1", validator=ge(1)
    )
    tree_above: int = option(
        4, "More workers than this: reduce and allreduce go along a tree, else directly.", unit="1", validator=ge(1)
    )
    relay_above: int = option(
        16,
        "More workers than this: gather, allgather and broadcast go along a tree, else directly.",
        unit="1",
        validator=ge(1),
    )
    ring_bytes: int = option(
        2 << 20,
        "Arrays of at least so many bytes that allreduce combines in batch mode go round a ring of the workers.",
        unit="bytes",
        validator=ge(1),
    )
