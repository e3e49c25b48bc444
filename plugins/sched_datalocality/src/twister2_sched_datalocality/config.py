"""Options of ``[sched.datalocality]``."""

from __future__ import annotations

import attrs
from attrs.validators import and_, ge, le

from twister2.spec.options import option


@attrs.frozen(kw_only=True)
class DataLocalityConfig:
    """Options of ``[sched.datalocality]``."""

    slack: float = option(
        0.1,
        "How much more than an equal part of the bytes a worker may read, as a share of it.",
        unit="1",
        validator=and_(ge(0), le(1e6)),
    )
    max_tasks_per_worker: int = option(
        0,
        "Most tasks of one graph on one worker, 0 for no limit; a graph's constraint of that name goes first.",
        unit="1",
        validator=ge(0),
    )
