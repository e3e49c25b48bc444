"""Options of the plugin."""

from __future__ import annotations

import attrs

from twister2.spec.options import option


@attrs.frozen(kw_only=True)
class FileStateConfig:
    """Options of ``[state.file]``."""

    path: str = option("", "Folder the objects lie in; the user's state folder (job.state_dir) when empty.")
