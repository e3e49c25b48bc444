"""Options of the plugin."""

from __future__ import annotations

from typing import Literal

import attrs
from attrs.validators import gt

from twister2.spec.options import option


@attrs.frozen(kw_only=True)
class ProgressConfig:
    """Options of ``[observe.progress]``."""

    display: Literal["auto", "terminal", "lines"] = option(
        "auto", "Redrawn lines of a terminal, or one line per change; auto: as stderr is a terminal or not."
    )
    summary: Literal["auto", "always", "never"] = option(
        "auto", "A table at the end of what each vertex of the job's graphs did; auto: where stderr is a terminal."
    )
    interval_s: float = option(10.0, "Time between two lines when not on a terminal.", unit="s", validator=gt(0))
