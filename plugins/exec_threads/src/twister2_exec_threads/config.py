"""Options of ``[exec.threads]``."""

from __future__ import annotations

import attrs

from twister2.spec.options import option
from twister2.spec.values import Value


@attrs.frozen(kw_only=True, eq=False, repr=False)
class ThreadsConfig(Value):
    """Options of ``[exec.threads]``."""

    quantum: int = option(
        8,
        "Items a task may handle before the next task has its turn.",
        unit="1",
        validator=attrs.validators.ge(1),
    )
