"""Options of ``[sched.firstfit]``."""

from __future__ import annotations

import attrs
from attrs.validators import and_, ge, lt

from twister2.spec.options import option


@attrs.frozen(kw_only=True)
class FirstFitConfig:
    """Options of ``[sched.firstfit]``."""

    cpu_padding: float = option(
        0.0, "CPUs of each worker that are left free.", unit="1", validator=and_(ge(0), lt(float("inf")))
    )
    memory_padding_mb: int = option(0, "Memory of each worker that is left free.", unit="MiB", validator=ge(0))
    oversubscribe: bool = option(
        False, "Put tasks that fit nowhere on the workers with most room left, where else the graph is refused."
    )
    max_tasks_per_worker: int = option(
        0,
        "Most tasks of one graph on one worker, 0 for no limit; a graph's constraint of that name goes first.",
        unit="1",
        validator=ge(0),
    )
