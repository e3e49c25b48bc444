"""Options of ``[sched.roundrobin]``."""

from __future__ import annotations

import attrs

from twister2.spec.options import option
from twister2.spec.values import Value


@attrs.frozen(kw_only=True, eq=False, repr=False)
class RoundRobinConfig(Value):
    """Options of ``[sched.roundrobin]``."""

    max_tasks_per_worker: int = option(
        0,
        "Most tasks of one graph on one worker, 0 for no limit; a graph's constraint of that name goes first.",
        unit="1",
        validator=attrs.validators.ge(0),
    )
